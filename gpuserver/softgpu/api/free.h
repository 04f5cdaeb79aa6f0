// What freeing memory waits for.
#pragma once

namespace softgpu {

class Device;

// Waits for all work of every context of the device (null: of every device): memory may go only when nothing that was
// issued before can still reach it.
void await_device(const Device* device);

}  // namespace softgpu
