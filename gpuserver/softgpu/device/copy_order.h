// The order of copies between devices in a default stream: such a copy begins when both devices have done what they
// were given before, and what they are given after begins when it is done (CUDA C++ Programming Guide, "Peer-to-Peer
// Memory Copy").
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "device/copy.h"

namespace softgpu {

using Contexts = std::vector<std::shared_ptr<Context>>;

// The contexts, other than the stream's, that the memory of a copy in this stream belongs to, on other devices. None
// unless the stream is a legacy default stream.
Contexts contexts_of_other_devices(const Stream& stream, const Copy& copy);

// Calls `issue`, which gives the stream a copy, between what makes the stream wait for `others` and what makes `others`
// wait for the stream. Nothing else of the kind is issued meanwhile.
void issue_in_order_with(const Contexts& others, Stream& stream, const std::function<void()>& issue);

}  // namespace softgpu
