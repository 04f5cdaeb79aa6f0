// Arrays and mipmapped arrays.
#include "device/array.h"

#include <algorithm>

#include "api/entry.h"
#include "api/free.h"
#include "device/capture.h"

using namespace softgpu;

namespace {

void describe(CUDA_ARRAY3D_DESCRIPTOR* out, CUarray handle) {
    const auto array = require<Array>(handle);
    check_value(out, "pArrayDescriptor is NULL");
    *out = array->descriptor();
}

}  // namespace

extern "C" CUresult CUDAAPI cuArrayCreate_v2(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR* pAllocateArray) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pHandle && pAllocateArray, "an argument is NULL");
        forbid_during_capture();
        CUDA_ARRAY3D_DESCRIPTOR descriptor{};
        descriptor.Width = pAllocateArray->Width;
        descriptor.Height = pAllocateArray->Height;
        descriptor.Format = pAllocateArray->Format;
        descriptor.NumChannels = pAllocateArray->NumChannels;
        *pHandle = handle_of(*Array::create(context, descriptor));
    });
}

extern "C" CUresult CUDAAPI cuArray3DCreate_v2(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pAllocateArray) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pHandle && pAllocateArray, "an argument is NULL");
        forbid_during_capture();
        *pHandle = handle_of(*Array::create(context, *pAllocateArray));
    });
}

extern "C" CUresult CUDAAPI cuArrayDestroy(CUarray hArray) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context& context = Context::require_current();
        const auto array = require<Array>(hArray);
        forbid_during_capture();
        await_device(array->memory()->device);
        withdraw<Array>(hArray);
        context.disown(to_value(hArray));
    });
}

extern "C" CUresult CUDAAPI cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
    return entry(__func__, [&] {
        CUDA_ARRAY3D_DESCRIPTOR full{};
        describe(&full, hArray);
        check_value(pArrayDescriptor, "pArrayDescriptor is NULL");
        pArrayDescriptor->Width = full.Width;
        pArrayDescriptor->Height = full.Height;
        pArrayDescriptor->Format = full.Format;
        pArrayDescriptor->NumChannels = full.NumChannels;
    });
}

extern "C" CUresult CUDAAPI cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
    return entry(__func__, [&] { describe(pArrayDescriptor, hArray); });
}

extern "C" CUresult CUDAAPI cuMipmappedArrayCreate(CUmipmappedArray* pHandle,
                                                   const CUDA_ARRAY3D_DESCRIPTOR* pMipmappedArrayDesc,
                                                   unsigned numMipmapLevels) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pHandle && pMipmappedArrayDesc && numMipmapLevels, "an argument is NULL or 0");
        forbid_during_capture();
        auto mipmap = std::make_shared<MipmappedArray>();
        CUDA_ARRAY3D_DESCRIPTOR level = *pMipmappedArrayDesc;
        const bool layered = level.Flags & CUDA_ARRAY3D_LAYERED;
        const size_t largest = std::max({level.Width, level.Height, layered ? size_t{1} : level.Depth});
        for (unsigned i = 0; i < numMipmapLevels && largest >> i; ++i) {
            mipmap->levels.push_back(handle_of(*Array::create(context, level)));
            const auto half = [](size_t extent) { return extent ? std::max<size_t>(extent / 2, 1) : 0; };
            level.Width = half(level.Width);
            level.Height = half(level.Height);
            if (!layered) level.Depth = half(level.Depth);
        }
        *pHandle = publish(mipmap);
        context.adopt(to_value(*pHandle));
    });
}

extern "C" CUresult CUDAAPI cuMipmappedArrayGetLevel(CUarray* pLevelArray, CUmipmappedArray hMipmappedArray,
                                                     unsigned level) {
    return entry(__func__, [&] {
        const auto mipmap = require<MipmappedArray>(hMipmappedArray);
        check_value(pLevelArray && level < mipmap->levels.size(), "there is no such level");
        *pLevelArray = mipmap->levels[level];
    });
}

extern "C" CUresult CUDAAPI cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context& context = Context::require_current();
        require<MipmappedArray>(hMipmappedArray);
        forbid_during_capture();
        await_device(&context.device());
        withdraw<MipmappedArray>(hMipmappedArray);
        context.disown(to_value(hMipmappedArray));
    });
}
