// Arrays: pitched memory with a format, for copies, textures and surfaces.
#pragma once

#include <memory>
#include <vector>

#include "device/context.h"
#include "device/handle.h"

namespace softgpu {

class Array final : public Object {
  public:
    using Handle = CUarray;
    static constexpr Kind kind = Kind::array;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    // Makes one; throws INVALID_VALUE for a descriptor that CUDA refuses, OUT_OF_MEMORY.
    static std::shared_ptr<Array> create(Context& context, const CUDA_ARRAY3D_DESCRIPTOR& descriptor);
    ~Array() override;

    [[nodiscard]] const CUDA_ARRAY3D_DESCRIPTOR& descriptor() const { return descriptor_; }
    [[nodiscard]] uint64_t base() const { return memory_->begin; }
    [[nodiscard]] uint64_t row_bytes() const { return row_bytes_; }  // of the elements of one row
    [[nodiscard]] uint64_t pitch() const { return pitch_; }          // bytes from row to row
    [[nodiscard]] uint64_t rows() const { return rows_; }            // of one slice
    [[nodiscard]] uint64_t slices() const { return slices_; }
    [[nodiscard]] uint64_t slice_pitch() const { return pitch_ * rows_; }
    [[nodiscard]] const AllocationPtr& memory() const { return memory_; }

  private:
    Array() = default;
    CUDA_ARRAY3D_DESCRIPTOR descriptor_{};
    uint64_t row_bytes_ = 0, pitch_ = 0, rows_ = 1, slices_ = 1;
    AllocationPtr memory_;
};

class MipmappedArray final : public Object {
  public:
    using Handle = CUmipmappedArray;
    static constexpr Kind kind = Kind::mipmapped_array;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;
    std::vector<CUarray> levels;
    ~MipmappedArray() override;
};

// Bytes of one channel; throws INVALID_VALUE for a format that has no fixed size (block-compressed, planar).
unsigned channel_bytes(CUarray_format format);

}  // namespace softgpu
