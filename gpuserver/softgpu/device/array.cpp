// Arrays.
#include "device/array.h"

#include <algorithm>

#include "device/error.h"
#include "device/release.h"
#include "device/sizes.h"

namespace softgpu {
namespace {
constexpr uint64_t pitch_unit = 512;
}

unsigned channel_bytes(CUarray_format format) {
    switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT8:
        case CU_AD_FORMAT_UNORM_INT8X1:
        case CU_AD_FORMAT_SNORM_INT8X1:
            return 1;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_HALF:
        case CU_AD_FORMAT_UNORM_INT16X1:
        case CU_AD_FORMAT_SNORM_INT16X1:
            return 2;
        case CU_AD_FORMAT_UNSIGNED_INT32:
        case CU_AD_FORMAT_SIGNED_INT32:
        case CU_AD_FORMAT_FLOAT:
            return 4;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown or unsupported array format");
    }
}

std::shared_ptr<Array> Array::create(Context& context, const CUDA_ARRAY3D_DESCRIPTOR& descriptor) {
    check_value(descriptor.Width > 0, "an array without width");
    check_value(descriptor.NumChannels == 1 || descriptor.NumChannels == 2 || descriptor.NumChannels == 4,
                "NumChannels is not 1, 2 or 4");
    constexpr uint64_t limit = 131072;
    check_value(descriptor.Width <= limit && descriptor.Height <= limit && descriptor.Depth <= limit,
                "the array is larger than the device allows");
    auto array = std::shared_ptr<Array>(new Array);
    array->descriptor_ = descriptor;
    array->row_bytes_ = descriptor.Width * descriptor.NumChannels * channel_bytes(descriptor.Format);
    array->pitch_ = round_up(array->row_bytes_, pitch_unit);
    array->rows_ = std::max<uint64_t>(descriptor.Height, 1);
    array->slices_ = std::max<uint64_t>(descriptor.Depth, 1);
    array->memory_ = context.device().allocate(&context, array->slice_pitch() * array->slices_, MemoryKind::device,
                                               pitch_unit, true);
    context.adopt(to_value(publish(array)));
    return array;
}

Array::~Array() {
    if (memory_) release_allocation(memory_);
}

MipmappedArray::~MipmappedArray() {
    for (CUarray level : levels) withdraw<Array>(level);
}

}  // namespace softgpu
