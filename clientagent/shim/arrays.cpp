// cuArrayCreate, cuMipmappedArrayCreate and their ends: the server makes them, the client counts what they take.
#include "arrays.h"

#include <map>

#include "array_size.h"
#include "call.h"
#include "device_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct ArrayCharge {
    const Context* context = nullptr;
    uint64_t bytes = 0;
    CUDA_ARRAY3D_DESCRIPTOR form{};
    bool mipmapped = false;
};

std::mutex lock;
std::map<Handle, ArrayCharge>& charges() {
    static auto* all = new std::map<Handle, ArrayCharge>;
    return *all;
}

template <class Array>
CUresult create(Op op, Array* place, const CUDA_ARRAY3D_DESCRIPTOR* form, uint64_t levels) {
    const Context* context = current_context();
    if (const CUresult failure = check_usable(context)) return failure;
    if (!place || !form) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t bytes = array_bytes(*form, levels);
    if (!device_memory().charge(context->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    Call call(op);
    call.value(*form);
    call.value(levels);
    call.ask();
    if (call.result()) {
        device_memory().discharge(context->device, bytes);
        return call.result();
    }
    const auto handle = call.results().take<uint64_t>();
    call.adopt(handle);
    const std::lock_guard held(lock);
    charges()[handle] = {context, bytes, *form, op == Op::create_mipmapped_array};
    *place = from_handle<Array>(handle);
    return CUDA_SUCCESS;
}

CUresult destroy(Op op, Kind kind, Handle handle) {
    Call call(op);
    call.destroyed(kind, handle);
    call.ask();
    if (call.result()) return call.result();
    const std::lock_guard held(lock);
    if (const auto found = charges().find(handle); found != charges().end()) {
        device_memory().discharge(found->second.context->device, found->second.bytes);
        charges().erase(found);
    }
    return CUDA_SUCCESS;
}

}  // namespace

bool array_holds(CUarray array, size_t x, size_t y, size_t z, const CUDA_MEMCPY3D& copy) {
    const std::lock_guard held(lock);
    const auto found = charges().find(to_handle(array));
    if (found == charges().end() || found->second.mipmapped) return true;
    const CUDA_ARRAY3D_DESCRIPTOR& form = found->second.form;
    if (form.Format > CU_AD_FORMAT_FLOAT) return true;
    const auto fits = [](size_t offset, size_t count, size_t size) { return offset <= size && count <= size - offset; };
    return fits(x, copy.WidthInBytes, form.Width * texel_bytes(form.Format, form.NumChannels)) &&
           fits(y, copy.Height, std::max<size_t>(form.Height, 1)) &&
           fits(z, copy.Depth, std::max<size_t>(form.Depth, 1));
}

void forget_arrays(const Context* context) {
    const std::lock_guard held(lock);
    for (auto at = charges().begin(); at != charges().end();) {
        if (at->second.context != context) {
            ++at;
            continue;
        }
        device_memory().discharge(context->device, at->second.bytes);
        handles_table().forget(at->first);
        at = charges().erase(at);
    }
}

const Context* context_of_array(Handle array) {
    const std::lock_guard held(lock);
    const auto found = charges().find(array);
    return found == charges().end() ? nullptr : found->second.context;
}

namespace shim {

CUresult cuArrayCreate_v2(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR* pAllocateArray) {
    if (!pAllocateArray) return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR form{};
    form.Width = pAllocateArray->Width;
    form.Height = pAllocateArray->Height;
    form.Format = pAllocateArray->Format;
    form.NumChannels = pAllocateArray->NumChannels;
    return create(Op::create_array, pHandle, &form, 1);
}

CUresult cuArray3DCreate_v2(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pAllocateArray) {
    return create(Op::create_array, pHandle, pAllocateArray, 1);
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pMipmappedArrayDesc,
                                unsigned numMipmapLevels) {
    return create(Op::create_mipmapped_array, pHandle, pMipmappedArrayDesc, numMipmapLevels);
}

CUresult cuArrayDestroy(CUarray hArray) {
    return destroy(Op::destroy_array, Kind::array, to_handle(hArray));
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray) {
    return destroy(Op::destroy_mipmapped_array, Kind::mipmapped_array, to_handle(hMipmappedArray));
}

}  // namespace shim
}  // namespace gpuferry
