// Copies and sets.
#include "device/copy.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "device/capture.h"
#include "device/copy_order.h"
#include "device/error.h"
#include "device/mapping.h"
#include "device/sizes.h"
#include "device/work.h"

namespace softgpu {
namespace {

using Side = CopyEnd::Side;

constexpr auto too_large = "the range is too large";

// Whether CUDA knows every byte of the range, which may run over several adjoining mappings.
bool known(uint64_t begin, uint64_t bytes) {
    const auto first = memory_map().find(begin);
    if (!first) return false;
    if (bytes <= first->end() - begin) return true;
    uint64_t next = begin;
    for (const auto& allocation : memory_map().within(begin, bytes)) {
        if (allocation->begin > next || allocation->kind != first->kind) return false;
        next = allocation->end();
    }
    return next - begin >= bytes;
}

bool in_device_space(uint64_t address) {
    for (int i = 0; i < device_count(); ++i) {
        if (require_device(i).memory().holds(address)) return true;
    }
    return in_reservation(address);
}

// Bytes from the first to behind the last.
uint64_t extent(const CopyEnd& end, const Copy& copy) {
    const uint64_t slices = checked_product(copy.depth - 1, end.slice, too_large);
    const uint64_t rows = checked_product(copy.height - 1, end.pitch, too_large);
    return checked_sum(checked_sum(slices, rows, too_large), copy.width, too_large);
}

uint64_t extent(const Set& set) {
    const uint64_t row = checked_product(set.width, set.element, too_large);
    return checked_sum(checked_product(set.height - 1, set.pitch, too_large), row, too_large);
}

// Whether there is anything to copy.
bool some(const Copy& copy) {
    return copy.width && copy.height && copy.depth;
}

// Throws INVALID_VALUE for more bytes than there can be.
void check_size(const Copy& copy) {
    checked_product(checked_product(copy.width, copy.height, too_large), copy.depth, too_large);
}

// A strided end over plain memory.
CopyEnd strided(uint64_t base, uint64_t pitch, uint64_t slice, const Copy& copy, PointerRole role) {
    CopyEnd shape;
    shape.pitch = pitch;
    shape.slice = slice;
    check_value(copy.height <= 1 || pitch >= copy.width, "the pitch is less than the width");
    CopyEnd end = resolve_end(base, extent(shape, copy), role);
    end.pitch = pitch;
    end.slice = slice;
    return end;
}

CopyEnd in_array(CUarray handle, uint64_t x, uint64_t y, uint64_t z, const Copy& copy) {
    auto array = require<Array>(handle);
    check_value(fits(x, copy.width, array->row_bytes()) && fits(y, copy.height, array->rows()) &&
                    fits(z, copy.depth, array->slices()),
                "the copy runs over the end of the array");
    CopyEnd end;
    end.base = array->base() + z * array->slice_pitch() + y * array->pitch() + x;
    end.pitch = array->pitch();
    end.slice = array->slice_pitch();
    end.side = Side::device;
    end.array = std::move(array);
    return end;
}

struct Corner {
    CUmemorytype type;
    const void* host;
    CUdeviceptr device;
    CUarray array;
    uint64_t pitch, height, x, y, z;
};

CopyEnd resolve_corner(const Corner& corner, const Copy& copy) {
    if (corner.type == CU_MEMORYTYPE_ARRAY) return in_array(corner.array, corner.x, corner.y, corner.z, copy);
    const uint64_t row = checked_sum(copy.width, corner.x, too_large);
    const uint64_t rows = checked_sum(copy.height, corner.y, too_large);
    check_value(corner.height == 0 || corner.height >= rows || copy.depth <= 1,
                "the slice height is less than the height");
    const uint64_t pitch = corner.pitch ? corner.pitch : row;
    // Only what is used counts: a copy of one slice may name any height.
    const bool slices = copy.depth > 1 || corner.z;
    const uint64_t slice = slices ? checked_product(pitch, corner.height ? corner.height : rows, too_large) : 0;
    const uint64_t above = checked_sum(checked_product(corner.z, slice, too_large),
                                       checked_product(corner.y, pitch, too_large), too_large);
    const uint64_t offset = checked_sum(above, corner.x, too_large);
    switch (corner.type) {
        case CU_MEMORYTYPE_HOST:
            return strided(checked_sum(reinterpret_cast<uint64_t>(corner.host), offset, too_large), pitch, slice, copy,
                           PointerRole::host);
        case CU_MEMORYTYPE_DEVICE:
            return strided(checked_sum(corner.device, offset, too_large), pitch, slice, copy, PointerRole::device);
        case CU_MEMORYTYPE_UNIFIED:
            return strided(checked_sum(corner.device, offset, too_large), pitch, slice, copy, PointerRole::any);
        case CU_MEMORYTYPE_ARRAY:
            break;
    }
    throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown memory type");
}

template <class Description>
Copy plan_3d(const Description& d) {
    Copy copy;
    copy.width = d.WidthInBytes;
    copy.height = d.Height;
    copy.depth = d.Depth;
    if (!some(copy)) return copy;
    check_size(copy);
    copy.from = resolve_corner(
        {d.srcMemoryType, d.srcHost, d.srcDevice, d.srcArray, d.srcPitch, d.srcHeight, d.srcXInBytes, d.srcY, d.srcZ},
        copy);
    copy.to = resolve_corner(
        {d.dstMemoryType, d.dstHost, d.dstDevice, d.dstArray, d.dstPitch, d.dstHeight, d.dstXInBytes, d.dstY, d.dstZ},
        copy);
    return copy;
}

void check_present(const CopyEnd& end, const Copy& copy) {
    if (end.side == Side::pageable || end.array) return;
    if (!known(end.base, extent(end, copy))) {
        throw DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "memory of a copy was freed before its turn");
    }
}

}  // namespace

CopyEnd resolve_end(uint64_t address, uint64_t bytes, PointerRole role) {
    check_value(address != 0, "a NULL pointer");
    check_value(address + bytes >= address, "the range wraps around");
    CopyEnd end;
    end.base = address;
    const auto allocation = memory_map().find(address);
    if (!allocation) {
        check_value(role != PointerRole::device, "the device address is in no allocation");
        check_value(!in_device_space(address), "the address is in no allocation");
        return end;
    }
    if (role == PointerRole::host && allocation->is_host() && bytes > allocation->end() - address) {
        return end;  // a part of it is registered: then it is pageable memory like any other
    }
    check_value(known(address, bytes), "the range runs over the end of its allocation");
    end.side = allocation->is_host()                     ? Side::pinned
               : allocation->kind == MemoryKind::managed ? Side::managed
                                                         : Side::device;
    return end;
}

Copy linear_copy(uint64_t to, PointerRole to_role, uint64_t from, PointerRole from_role, uint64_t bytes) {
    Copy copy;
    copy.width = bytes;
    if (!bytes) return copy;
    copy.to = resolve_end(to, bytes, to_role);
    copy.from = resolve_end(from, bytes, from_role);
    return copy;
}

Copy plan_copy(const CUDA_MEMCPY2D& d) {
    Copy copy;
    copy.width = d.WidthInBytes;
    copy.height = d.Height;
    if (!some(copy)) return copy;
    check_size(copy);
    copy.from = resolve_corner(
        {d.srcMemoryType, d.srcHost, d.srcDevice, d.srcArray, d.srcPitch, 0, d.srcXInBytes, d.srcY, 0}, copy);
    copy.to = resolve_corner(
        {d.dstMemoryType, d.dstHost, d.dstDevice, d.dstArray, d.dstPitch, 0, d.dstXInBytes, d.dstY, 0}, copy);
    return copy;
}

Copy plan_copy(const CUDA_MEMCPY3D& d) {
    return plan_3d(d);
}
Copy plan_copy(const CUDA_MEMCPY3D_PEER& d) {
    return plan_3d(d);
}

Copy array_copy(uint64_t address, PointerRole role, const std::shared_ptr<Array>& array, uint64_t offset,
                uint64_t bytes, bool to_array) {
    check_value(array->slices() == 1 && array->rows() == 1, "the array is not one-dimensional");
    check_value(fits(offset, bytes, array->row_bytes()), "the copy runs over the end of the array");
    Copy copy;
    copy.width = bytes;
    if (!bytes) return copy;
    CopyEnd in;
    in.base = array->base() + offset;
    in.side = Side::device;
    in.array = array;
    CopyEnd out = resolve_end(address, bytes, role);
    copy.to = to_array ? in : out;
    copy.from = to_array ? out : in;
    return copy;
}

void perform_copy(const Copy& copy) {
    if (!copy.bytes()) return;
    check_present(copy.to, copy);
    check_present(copy.from, copy);
    for (uint64_t z = 0; z < copy.depth; ++z) {
        auto* to = reinterpret_cast<std::byte*>(copy.to.base + z * copy.to.slice);
        const auto* from = reinterpret_cast<const std::byte*>(copy.from.base + z * copy.from.slice);
        const bool dense = copy.to.pitch == copy.width && copy.from.pitch == copy.width;
        if (dense) {
            std::memmove(to, from, copy.width * copy.height);
            continue;
        }
        for (uint64_t y = 0; y < copy.height; ++y) {
            std::memmove(to + y * copy.to.pitch, from + y * copy.from.pitch, copy.width);
        }
    }
}

Set plan_set(uint64_t base, uint64_t pitch, uint32_t value, unsigned element, uint64_t width, uint64_t height) {
    const Set set{base, pitch, value, element, width, height};
    if (!width || !height) return set;
    check_value(base % element == 0 && (height <= 1 || pitch % element == 0), "the address is not aligned");
    check_value(height <= 1 || pitch >= checked_product(width, element, too_large), "the pitch is less than the width");
    check_value(known(base, extent(set)), "the range is in no allocation");
    return set;
}

void perform_set(const Set& set) {
    if (!set.width || !set.height) return;
    if (!known(set.base, extent(set))) {
        throw DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "memory of a set was freed before its turn");
    }
    for (uint64_t y = 0; y < set.height; ++y) {
        const uint64_t row = set.base + y * set.pitch;
        if (set.element == 1) {
            std::memset(reinterpret_cast<void*>(row), static_cast<int>(set.value & 0xff), set.width);
        } else if (set.element == 2) {
            std::fill_n(reinterpret_cast<uint16_t*>(row), set.width, static_cast<uint16_t>(set.value));
        } else {
            std::fill_n(reinterpret_cast<uint32_t*>(row), set.width, set.value);
        }
    }
}

namespace {

void issue_copy(const std::shared_ptr<Stream>& stream, Copy copy, bool wait) {
    if (wait || copy.to.side == Side::pageable) {
        stream->run({[&copy] { perform_copy(copy); }});
        stream->context().flush_print();
        stream->context().require_unfailed();
        return;
    }
    if (copy.from.side != Side::pageable) {
        stream->enqueue({[copy = std::move(copy)] { perform_copy(copy); }});
        return;
    }
    // The source bytes are the program's again when the call returns: take them now, or move them now.
    constexpr uint64_t stage_limit = uint64_t{16} << 20;
    if (stream->idle() || copy.bytes() > stage_limit) {
        stream->run({[&copy] { perform_copy(copy); }});
        stream->context().require_unfailed();
        return;
    }
    auto stage = std::make_shared<std::vector<std::byte>>(copy.bytes());
    Copy take = copy;
    take.to = {};
    take.to.base = reinterpret_cast<uint64_t>(stage->data());
    take.to.pitch = copy.width;
    take.to.slice = copy.width * copy.height;
    perform_copy(take);
    copy.from = take.to;
    stream->enqueue({[copy = std::move(copy), stage] { perform_copy(copy); }});
}

}  // namespace

void submit_copy(const std::shared_ptr<Stream>& stream, Copy copy, bool wait,
                 std::vector<std::shared_ptr<Context>> with) {
    if (wait) forbid_during_capture();
    if (capture_work(*stream, [&] { return CopyWork::of(copy); })) return;
    if (!copy.bytes()) return;
    for (auto& context : contexts_of_other_devices(*stream, copy)) {
        if (std::ranges::find(with, context) == with.end()) with.push_back(std::move(context));
    }
    if (wait) {
        // What comes after on either device is issued after this call.
        for (const auto& context : with) context->synchronize();
        return issue_copy(stream, std::move(copy), wait);
    }
    issue_in_order_with(with, *stream, [&] { issue_copy(stream, std::move(copy), wait); });
}

void submit_set(const std::shared_ptr<Stream>& stream, const Set& set, bool wait) {
    if (wait) forbid_during_capture();
    if (capture_work(*stream, [&] { return SetWork::of(set, handle_of(stream->context())); })) return;
    if (!set.width || !set.height) return;
    if (wait) {
        stream->run({[&set] { perform_set(set); }});
        stream->context().require_unfailed();
    } else {
        stream->enqueue({[set] { perform_set(set); }});
    }
}

}  // namespace softgpu
