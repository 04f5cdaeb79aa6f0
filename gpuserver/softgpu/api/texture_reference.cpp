// cuTexRef*, cuSurfRef*: variables of type .texref and .surfref, which programs of before CUDA 12 bind by name.
#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "api/entry.h"
#include "device/texture.h"
#include "image/module.h"

using namespace softgpu;

namespace {

// The references of modules by name: the same one each time.
template <class Reference>
typename Reference::Handle reference_of(CUmodule handle, const char* name) {
    static std::mutex& mutex = *new std::mutex;
    static auto& known = *new std::map<std::tuple<CUmodule, std::string>, typename Reference::Handle>;
    const auto module = require<Module>(handle);
    const Module::Variable variable = module->variable(name);
    if (variable.size != sizeof(uint64_t)) throw DriverError(CUDA_ERROR_NOT_FOUND, "the variable is no reference");
    const std::lock_guard lock(mutex);
    auto& reference = known[{handle, name}];
    if (!reference) {
        reference = publish(std::make_shared<Reference>(ReferenceVariable{module, variable.address}));
        if (const auto context = module->context()) context->adopt(to_value(reference));
    }
    return reference;
}

// Changes what a reference is, and with it what its instructions read when it is bound.
template <class Change>
CUresult change(const char* name, CUtexref handle, Change apply) {
    return entry(name, [&] {
        const auto reference = require<TextureReference>(handle);
        const std::lock_guard lock(reference->mutex);
        TextureDescriptors changed = reference->descriptors;
        apply(changed);
        reference->set(changed);
    });
}

template <class Tell>
CUresult ask(const char* name, CUtexref handle, bool place, Tell tell) {
    return entry(name, [&] {
        const auto reference = require<TextureReference>(handle);
        check_value(place, "no place for the answer");
        const std::lock_guard lock(reference->mutex);
        tell(reference->descriptors);
    });
}

void require_type(const TextureDescriptors& d, bool matches) {
    check_value(d.bound && matches, "the reference is bound to nothing of this kind");
}

}  // namespace

extern "C" CUresult CUDAAPI cuModuleGetTexRef(CUtexref* pTexRef, CUmodule hmod, const char* name) {
    return entry(__func__, [&] {
        check_value(pTexRef && name, "an argument is NULL");
        *pTexRef = reference_of<TextureReference>(hmod, name);
    });
}

extern "C" CUresult CUDAAPI cuModuleGetSurfRef(CUsurfref* pSurfRef, CUmodule hmod, const char* name) {
    return entry(__func__, [&] {
        check_value(pSurfRef && name, "an argument is NULL");
        *pSurfRef = reference_of<SurfaceReference>(hmod, name);
    });
}

extern "C" CUresult CUDAAPI cuTexRefCreate(CUtexref* pTexRef) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pTexRef, "pTexRef is NULL");
        *pTexRef = publish(std::make_shared<TextureReference>(ReferenceVariable{}));
        context.adopt(to_value(*pTexRef));
    });
}

extern "C" CUresult CUDAAPI cuTexRefDestroy(CUtexref hTexRef) {
    return entry(__func__, [&] {
        check_value(!require<TextureReference>(hTexRef)->variable.address, "the reference is a module's");
        withdraw<TextureReference>(hTexRef);
        Context::require_current().disown(to_value(hTexRef));
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetArray(CUtexref hTexRef, CUarray hArray, unsigned Flags) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(Flags == CU_TRSA_OVERRIDE_FORMAT, "Flags are not CU_TRSA_OVERRIDE_FORMAT");
        d.bound = true;
        d.resource = {};
        d.resource.resType = CU_RESOURCE_TYPE_ARRAY;
        d.resource.res.array.hArray = hArray;
        d.format = require<Array>(hArray)->descriptor().Format;
        d.channels = require<Array>(hArray)->descriptor().NumChannels;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetMipmappedArray(CUtexref hTexRef, CUmipmappedArray hMipmappedArray,
                                                      unsigned Flags) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(Flags == CU_TRSA_OVERRIDE_FORMAT, "Flags are not CU_TRSA_OVERRIDE_FORMAT");
        d.bound = true;
        d.resource = {};
        d.resource.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
        d.resource.res.mipmap.hMipmappedArray = hMipmappedArray;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetAddress_v2(size_t* ByteOffset, CUtexref hTexRef, CUdeviceptr dptr,
                                                  size_t bytes) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        const size_t offset = dptr % texture_alignment;
        check_value(ByteOffset || offset == 0, "the address is not aligned, and its offset is not asked for");
        if (ByteOffset) *ByteOffset = offset;
        d.bound = dptr != 0;
        d.resource = {};
        d.resource.resType = CU_RESOURCE_TYPE_LINEAR;
        d.resource.res.linear = {dptr - offset, d.format, d.channels, bytes + offset};
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetAddress2D_v3(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR* desc,
                                                    CUdeviceptr dptr, size_t Pitch) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(desc, "desc is NULL");
        d.bound = true;
        d.resource = {};
        d.resource.resType = CU_RESOURCE_TYPE_PITCH2D;
        d.resource.res.pitch2D = {dptr, desc->Format, desc->NumChannels, desc->Width, desc->Height, Pitch};
        d.format = desc->Format;
        d.channels = desc->NumChannels;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetAddress2D_v2(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR* desc,
                                                    CUdeviceptr dptr, size_t Pitch) {
    return cuTexRefSetAddress2D_v3(hTexRef, desc, dptr, Pitch);
}

// What is bound keeps its format: only linear memory that is bound later gets this one.
extern "C" CUresult CUDAAPI cuTexRefSetFormat(CUtexref hTexRef, CUarray_format fmt, int NumPackedComponents) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        channel_bytes(fmt);
        check_value(NumPackedComponents == 1 || NumPackedComponents == 2 || NumPackedComponents == 4,
                    "NumPackedComponents is not 1, 2 or 4");
        d.format = fmt;
        d.channels = static_cast<unsigned>(NumPackedComponents);
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetAddressMode(CUtexref hTexRef, int dim, CUaddress_mode am) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(dim >= 0 && dim < 3, "no such dimension");
        check_value(am <= CU_TR_ADDRESS_MODE_BORDER, "unknown address mode");
        d.texture.addressMode[dim] = am;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetFilterMode(CUtexref hTexRef, CUfilter_mode fm) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(fm <= CU_TR_FILTER_MODE_LINEAR, "unknown filter");
        d.texture.filterMode = fm;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetMipmapFilterMode(CUtexref hTexRef, CUfilter_mode fm) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(fm <= CU_TR_FILTER_MODE_LINEAR, "unknown filter");
        d.texture.mipmapFilterMode = fm;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetMipmapLevelBias(CUtexref hTexRef, float bias) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) { d.texture.mipmapLevelBias = bias; });
}

extern "C" CUresult CUDAAPI cuTexRefSetMipmapLevelClamp(CUtexref hTexRef, float minMipmapLevelClamp,
                                                        float maxMipmapLevelClamp) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        d.texture.minMipmapLevelClamp = minMipmapLevelClamp;
        d.texture.maxMipmapLevelClamp = maxMipmapLevelClamp;
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetMaxAnisotropy(CUtexref hTexRef, unsigned maxAniso) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) { d.texture.maxAnisotropy = maxAniso; });
}

extern "C" CUresult CUDAAPI cuTexRefSetBorderColor(CUtexref hTexRef, float* pBorderColor) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value(pBorderColor, "pBorderColor is NULL");
        std::copy_n(pBorderColor, 4, d.texture.borderColor);
    });
}

extern "C" CUresult CUDAAPI cuTexRefSetFlags(CUtexref hTexRef, unsigned Flags) {
    return change(__func__, hTexRef, [&](TextureDescriptors& d) {
        check_value((Flags & ~texture_flags) == 0, "unknown flags");
        d.texture.flags = Flags;
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetAddress_v2(CUdeviceptr* pdptr, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pdptr, [&](const TextureDescriptors& d) {
        const bool linear = d.resource.resType == CU_RESOURCE_TYPE_LINEAR;
        require_type(d, linear || d.resource.resType == CU_RESOURCE_TYPE_PITCH2D);
        *pdptr = linear ? d.resource.res.linear.devPtr : d.resource.res.pitch2D.devPtr;
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetArray(CUarray* phArray, CUtexref hTexRef) {
    return ask(__func__, hTexRef, phArray, [&](const TextureDescriptors& d) {
        require_type(d, d.resource.resType == CU_RESOURCE_TYPE_ARRAY);
        *phArray = d.resource.res.array.hArray;
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetMipmappedArray(CUmipmappedArray* phMipmappedArray, CUtexref hTexRef) {
    return ask(__func__, hTexRef, phMipmappedArray, [&](const TextureDescriptors& d) {
        require_type(d, d.resource.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY);
        *phMipmappedArray = d.resource.res.mipmap.hMipmappedArray;
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetAddressMode(CUaddress_mode* pam, CUtexref hTexRef, int dim) {
    return ask(__func__, hTexRef, pam, [&](const TextureDescriptors& d) {
        check_value(dim >= 0 && dim < 3, "no such dimension");
        *pam = d.texture.addressMode[dim];
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetFilterMode(CUfilter_mode* pfm, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pfm, [&](const TextureDescriptors& d) { *pfm = d.texture.filterMode; });
}

extern "C" CUresult CUDAAPI cuTexRefGetFormat(CUarray_format* pFormat, int* pNumChannels, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pFormat || pNumChannels, [&](const TextureDescriptors& d) {
        if (pFormat) *pFormat = d.format;
        if (pNumChannels) *pNumChannels = static_cast<int>(d.channels);
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetMipmapFilterMode(CUfilter_mode* pfm, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pfm, [&](const TextureDescriptors& d) { *pfm = d.texture.mipmapFilterMode; });
}

extern "C" CUresult CUDAAPI cuTexRefGetMipmapLevelBias(float* pbias, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pbias, [&](const TextureDescriptors& d) { *pbias = d.texture.mipmapLevelBias; });
}

extern "C" CUresult CUDAAPI cuTexRefGetMipmapLevelClamp(float* pminMipmapLevelClamp, float* pmaxMipmapLevelClamp,
                                                        CUtexref hTexRef) {
    return ask(__func__, hTexRef, pminMipmapLevelClamp && pmaxMipmapLevelClamp, [&](const TextureDescriptors& d) {
        *pminMipmapLevelClamp = d.texture.minMipmapLevelClamp;
        *pmaxMipmapLevelClamp = d.texture.maxMipmapLevelClamp;
    });
}

extern "C" CUresult CUDAAPI cuTexRefGetMaxAnisotropy(int* pmaxAniso, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pmaxAniso,
               [&](const TextureDescriptors& d) { *pmaxAniso = static_cast<int>(d.texture.maxAnisotropy); });
}

extern "C" CUresult CUDAAPI cuTexRefGetBorderColor(float* pBorderColor, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pBorderColor,
               [&](const TextureDescriptors& d) { std::copy_n(d.texture.borderColor, 4, pBorderColor); });
}

extern "C" CUresult CUDAAPI cuTexRefGetFlags(unsigned* pFlags, CUtexref hTexRef) {
    return ask(__func__, hTexRef, pFlags, [&](const TextureDescriptors& d) { *pFlags = d.texture.flags; });
}

extern "C" CUresult CUDAAPI cuSurfRefSetArray(CUsurfref hSurfRef, CUarray hArray, unsigned Flags) {
    return entry(__func__, [&] {
        check_value(Flags == 0, "Flags are not 0");
        require<SurfaceReference>(hSurfRef)->bind(hArray);
    });
}

extern "C" CUresult CUDAAPI cuSurfRefGetArray(CUarray* phArray, CUsurfref hSurfRef) {
    return entry(__func__, [&] {
        const auto reference = require<SurfaceReference>(hSurfRef);
        check_value(phArray && reference->array(), "phArray is NULL, or the reference is not bound");
        *phArray = reference->array();
    });
}

// A module's references are its functions' anyway.
extern "C" CUresult CUDAAPI cuParamSetTexRef(CUfunction hfunc, int texunit, CUtexref hTexRef) {
    return entry(__func__, [&] {
        require<Function>(hfunc);
        require<TextureReference>(hTexRef);
        check_value(texunit == CU_PARAM_TR_DEFAULT, "texunit is not CU_PARAM_TR_DEFAULT");
    });
}
