// What a file descriptor stands for that names shared memory. The descriptor that the program gets, and hands to other
// processes of the lease on this machine, holds these bytes and nothing else; the workers pass the memory itself.
#pragma once

#include <array>
#include <cstdint>

#include "cuda_api.h"

namespace gpuferry {

using SharingKey = std::array<char, 16>;

struct SharedName {
    enum class What : uint32_t { memory = 0x6d65'6d6e, pool = 0x706f'6f6c };
    What what = What::memory;
    uint32_t process = 0;  // the worker that has the memory
    SharingKey key{};
    uint64_t size = 0;   // bytes
    uint64_t place = 0;  // of its GPU in the lease: programs may number their GPUs differently
};

// A new descriptor with this name; negative where the system has none.
int write_name(const SharedName& name);
// False where the descriptor holds no name of this kind, or one of a GPU that this program does not see; `device` is
// how it numbers that GPU.
bool read_name(int descriptor, SharedName::What what, SharedName& name, CUdevice& device);

}  // namespace gpuferry
