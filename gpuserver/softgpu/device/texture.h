// Texture and surface objects, and the references that programs of before CUDA 12 bind to memory by name.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "device/array.h"
#include "device/context.h"
#include "device/handle.h"
#include "engine/texture.h"

namespace softgpu {

// What CUDA says of a texture object: kept to be told back.
struct TextureDescriptors {
    CUDA_RESOURCE_DESC resource{};
    CUDA_TEXTURE_DESC texture{};
    std::optional<CUDA_RESOURCE_VIEW_DESC> view;
    // Of a reference: whether the resource is one, and the format of linear memory.
    bool bound = true;
    CUarray_format format = CU_AD_FORMAT_UNSIGNED_INT8;
    unsigned channels = 1;
};

inline constexpr uint64_t texture_alignment = 512, texture_pitch_alignment = 32;  // bytes, as attributes tell
inline constexpr unsigned texture_flags = CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB |
                                          CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION | CU_TRSF_SEAMLESS_CUBEMAP;

// What instructions read, of these descriptors. Throws INVALID_VALUE, INVALID_HANDLE.
std::shared_ptr<const Texture> make_texture(const TextureDescriptors& descriptors);
// The same of a surface's resource, which must be an array.
std::shared_ptr<const Texture> make_surface(const CUDA_RESOURCE_DESC& resource);

class TextureObject final : public Object {
  public:
    using Handle = CUtexObject;
    static constexpr Kind kind = Kind::texture;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;
    explicit TextureObject(const TextureDescriptors& given) : descriptors(given), texture(make_texture(given)) {}
    const TextureDescriptors descriptors;
    const std::shared_ptr<const Texture> texture;
};

class SurfaceObject final : public Object {
  public:
    using Handle = CUsurfObject;
    static constexpr Kind kind = Kind::surface;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;
    explicit SurfaceObject(const CUDA_RESOURCE_DESC& given) : resource(given), texture(make_surface(given)) {}
    const CUDA_RESOURCE_DESC resource;
    const std::shared_ptr<const Texture> texture;
};

// Null for a handle that is neither's.
std::shared_ptr<const Texture> texture_behind(uint64_t handle);

// Where a module's reference lies; an address of 0 for one that is no module's.
struct ReferenceVariable {
    std::weak_ptr<void> module;
    uint64_t address = 0;
    // What its instructions read from now on. Throws INVALID_VALUE when the module is gone.
    void put(uint64_t handle) const;
};

// A variable of type .texref: it holds the handle of a texture object, which every change of the reference makes anew.
class TextureReference final : public Object {
  public:
    using Handle = CUtexref;
    static constexpr Kind kind = Kind::texture_reference;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;
    explicit TextureReference(ReferenceVariable of);
    ~TextureReference() override;

    const ReferenceVariable variable;
    std::mutex mutex;  // guards what follows
    TextureDescriptors descriptors;
    // Takes the descriptors over, and binds where they are bound. Throws INVALID_VALUE, INVALID_HANDLE.
    void set(const TextureDescriptors& changed);

  private:
    CUtexObject object_ = 0;
};

class SurfaceReference final : public Object {
  public:
    using Handle = CUsurfref;
    static constexpr Kind kind = Kind::surface_reference;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;
    explicit SurfaceReference(ReferenceVariable of) : variable(std::move(of)) {}
    ~SurfaceReference() override;
    void bind(CUarray array);
    [[nodiscard]] CUarray array() const { return array_; }

    const ReferenceVariable variable;

  private:
    CUarray array_ = nullptr;
    CUsurfObject object_ = 0;
};

}  // namespace softgpu
