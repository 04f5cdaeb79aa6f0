// What a module and a library are asked alike: their kernels and variables.
#pragma once

#include <algorithm>

#include "device/cuda_types.h"
#include "device/error.h"
#include "device/handle.h"

namespace softgpu {

// `holder`: a Module or a Library.
template <class Holder>
void tell_kernel_count(unsigned* count, const Holder& holder) {
    check_value(count != nullptr, "no place for the count");
    *count = static_cast<unsigned>(holder.program().kernels().size());
}

// The handles of its first `room` kernels; `at` gives the object of the one at an index.
template <class Handle, class Holder, class At>
void tell_kernels(Handle* handles, unsigned room, const Holder& holder, At&& at) {
    check_value(handles != nullptr && room > 0, "no place for the kernels");
    const size_t count = std::min<size_t>(room, holder.program().kernels().size());
    for (size_t i = 0; i < count; ++i) handles[i] = handle_of(*at(i));
}

template <class Variable>
void tell_variable(CUdeviceptr* address, size_t* bytes, const Variable& variable) {
    if (address) *address = variable.address;
    if (bytes) *bytes = variable.size;
}

}  // namespace softgpu
