// What texture and surface instructions find behind CUDA's descriptors.
#include "device/texture.h"

#include <algorithm>
#include <cstring>

#include "device/memory.h"

namespace softgpu {
namespace {

using Channel = Texture::Channel;

Channel channel_of(CUarray_format format) {
    switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_UNORM_INT8X1:
            return Channel::u8;
        case CU_AD_FORMAT_SIGNED_INT8:
        case CU_AD_FORMAT_SNORM_INT8X1:
            return Channel::s8;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_UNORM_INT16X1:
            return Channel::u16;
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_SNORM_INT16X1:
            return Channel::s16;
        case CU_AD_FORMAT_UNSIGNED_INT32:
            return Channel::u32;
        case CU_AD_FORMAT_SIGNED_INT32:
            return Channel::s32;
        case CU_AD_FORMAT_HALF:
            return Channel::f16;
        case CU_AD_FORMAT_FLOAT:
            return Channel::f32;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "a format that textures do not have");
    }
}

void set_format(Texture& t, CUarray_format format, unsigned channels) {
    t.channel = channel_of(format);
    check_value(channels == 1 || channels == 2 || channels == 4, "a texel has 1, 2 or 4 channels");
    t.channels = static_cast<uint8_t>(channels);
}

Texture::Level level_of(const Array& array) {
    const CUDA_ARRAY3D_DESCRIPTOR& form = array.descriptor();
    Texture::Level level;
    level.base = array.base();
    level.width = static_cast<uint32_t>(form.Width);
    level.height = static_cast<uint32_t>(array.rows());
    level.layers = static_cast<uint32_t>(array.slices());
    level.pitch = array.pitch();
    level.layer_pitch = array.slice_pitch();
    return level;
}

// The shape that the array's flags and extents say.
void set_array(Texture& t, const CUDA_ARRAY3D_DESCRIPTOR& form) {
    set_format(t, form.Format, form.NumChannels);
    t.cube = form.Flags & CUDA_ARRAY3D_CUBEMAP;
    t.layered = form.Flags & CUDA_ARRAY3D_LAYERED;
    t.dimensions = form.Height == 0 ? 1 : form.Depth == 0 || t.layered || t.cube ? 2 : 3;
}

void set_resource(Texture& t, const CUDA_RESOURCE_DESC& resource) {
    check_value(resource.flags == 0, "flags of a resource are not 0");
    switch (resource.resType) {
        case CU_RESOURCE_TYPE_ARRAY: {
            const auto array = require<Array>(resource.res.array.hArray);
            set_array(t, array->descriptor());
            t.levels = {level_of(*array)};
            t.keeper = array;
            return;
        }
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY: {
            const auto mipmap = require<MipmappedArray>(resource.res.mipmap.hMipmappedArray);
            for (CUarray handle : mipmap->levels) t.levels.push_back(level_of(*require<Array>(handle)));
            set_array(t, require<Array>(mipmap->levels.at(0))->descriptor());
            t.keeper = mipmap;
            return;
        }
        case CU_RESOURCE_TYPE_LINEAR: {
            const auto& linear = resource.res.linear;
            set_format(t, linear.format, linear.numChannels);
            check_value(linear.devPtr && linear.devPtr % texture_alignment == 0, "the address is not aligned");
            check_value(linear.sizeInBytes / t.texel_bytes() - 1 < (1U << 27), "no texels, or too many");
            t.levels.resize(1);
            t.levels[0].base = linear.devPtr;
            t.levels[0].width = static_cast<uint32_t>(linear.sizeInBytes / t.texel_bytes());
            t.linear_memory = t.may_be_freed = true;
            return;
        }
        case CU_RESOURCE_TYPE_PITCH2D: {
            const auto& plane = resource.res.pitch2D;
            set_format(t, plane.format, plane.numChannels);
            check_value(plane.devPtr && plane.devPtr % texture_alignment == 0, "the address is not aligned");
            check_value(plane.width - 1 < 131072 && plane.height - 1 < 65536, "no texels, or too many");
            check_value(plane.pitchInBytes % texture_pitch_alignment == 0 &&
                            plane.pitchInBytes >= plane.width * t.texel_bytes(),
                        "the pitch is not aligned, or less than a row");
            t.levels.resize(1);
            t.levels[0].base = plane.devPtr;
            t.levels[0].width = static_cast<uint32_t>(plane.width);
            t.levels[0].height = static_cast<uint32_t>(plane.height);
            t.levels[0].pitch = plane.pitchInBytes;
            t.dimensions = 2;
            t.may_be_freed = true;
            return;
        }
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "no type of a resource");
    }
}

// Another format of the same size, and a part of the levels and layers.
void set_view(Texture& t, const CUDA_RESOURCE_VIEW_DESC& view) {
    check_value(!t.may_be_freed, "linear memory has no view");
    const uint32_t before = t.texel_bytes();
    if (view.format != CU_RES_VIEW_FORMAT_NONE) {
        check_value(view.format <= CU_RES_VIEW_FORMAT_FLOAT_4X32, "compressed formats are not supported");
        const unsigned number = view.format - CU_RES_VIEW_FORMAT_UINT_1X8;
        t.channel = static_cast<Channel>(number / 3);
        t.channels = static_cast<uint8_t>(1U << number % 3);
        check_value(t.texel_bytes() == before, "the view's format has another size");
    }
    check_value(view.firstMipmapLevel <= view.lastMipmapLevel && view.lastMipmapLevel < t.levels.size(),
                "no such levels");
    t.levels.assign(t.levels.begin() + view.firstMipmapLevel, t.levels.begin() + view.lastMipmapLevel + 1);
    if (!t.layered) return;
    check_value(view.firstLayer <= view.lastLayer && view.lastLayer < t.levels[0].layers, "no such layers");
    for (Texture::Level& level : t.levels) {
        level.base += view.firstLayer * level.layer_pitch;
        level.layers = view.lastLayer - view.firstLayer + 1;
    }
}

}  // namespace

std::shared_ptr<const Texture> make_texture(const TextureDescriptors& given) {
    auto made = std::make_shared<Texture>();
    Texture& t = *made;
    set_resource(t, given.resource);
    if (given.view) set_view(t, *given.view);
    const CUDA_TEXTURE_DESC& form = given.texture;
    check_value((form.flags & ~texture_flags) == 0, "unknown flags of a texture");
    check_value(form.filterMode <= CU_TR_FILTER_MODE_LINEAR && form.mipmapFilterMode <= CU_TR_FILTER_MODE_LINEAR,
                "unknown filter");
    for (size_t d = 0; d < 3; ++d) {
        check_value(form.addressMode[d] <= CU_TR_ADDRESS_MODE_BORDER, "unknown address mode");
        t.address[d] = static_cast<Texture::Address>(form.addressMode[d]);
    }
    t.normalized_coordinates = form.flags & CU_TRSF_NORMALIZED_COORDINATES;
    t.normalized_values = !(form.flags & CU_TRSF_READ_AS_INTEGER) && t.channel <= Channel::s16;
    t.srgb = (form.flags & CU_TRSF_SRGB) && t.channel == Channel::u8;
    t.linear_filter = form.filterMode == CU_TR_FILTER_MODE_LINEAR;
    t.linear_levels = form.mipmapFilterMode == CU_TR_FILTER_MODE_LINEAR;
    std::copy(std::begin(form.borderColor), std::end(form.borderColor), t.border.begin());
    t.level_bias = form.mipmapLevelBias;
    t.lowest_level = form.minMipmapLevelClamp;
    t.highest_level = form.maxMipmapLevelClamp;
    return made;
}

std::shared_ptr<const Texture> make_surface(const CUDA_RESOURCE_DESC& resource) {
    check_value(resource.resType == CU_RESOURCE_TYPE_ARRAY, "a surface is of an array");
    auto made = std::make_shared<Texture>();
    made->surface = true;
    set_resource(*made, resource);
    check_value(require<Array>(resource.res.array.hArray)->descriptor().Flags & CUDA_ARRAY3D_SURFACE_LDST,
                "the array was made without CUDA_ARRAY3D_SURFACE_LDST");
    return made;
}

std::shared_ptr<const Texture> texture_behind(uint64_t handle) {
    if (const auto texture = find<TextureObject>(handle)) return texture->texture;
    if (const auto surface = find<SurfaceObject>(handle)) return surface->texture;
    return nullptr;
}

void ReferenceVariable::put(uint64_t handle) const {
    if (!address) return;
    const auto living = module.lock();
    check_value(living != nullptr, "the reference's module is unloaded");
    std::memcpy(reinterpret_cast<void*>(address), &handle, sizeof handle);
}

TextureReference::TextureReference(ReferenceVariable of) : variable(std::move(of)) {
    descriptors.bound = false;
    for (CUaddress_mode& mode : descriptors.texture.addressMode) mode = CU_TR_ADDRESS_MODE_CLAMP;
}

TextureReference::~TextureReference() {
    if (object_) withdraw<TextureObject>(object_);
}

void TextureReference::set(const TextureDescriptors& changed) {
    const auto made = changed.bound ? std::make_shared<TextureObject>(changed) : nullptr;
    const CUtexObject object = made ? publish(made) : 0;
    variable.put(object);
    if (object_) withdraw<TextureObject>(object_);
    object_ = object;
    descriptors = changed;
}

SurfaceReference::~SurfaceReference() {
    if (object_) withdraw<SurfaceObject>(object_);
}

void SurfaceReference::bind(CUarray array) {
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    const CUsurfObject object = publish(std::make_shared<SurfaceObject>(resource));
    variable.put(object);
    if (object_) withdraw<SurfaceObject>(object_);
    object_ = object;
    array_ = array;
}

}  // namespace softgpu
