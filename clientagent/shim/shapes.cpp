// cuMemcpy2D*, cuMemcpy3D*, copies between host memory and arrays: the host's rows are gathered into packed pieces, and
// scattered from them.
#include "shapes.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "arrays.h"
#include "between_servers.h"
#include "host_memory.h"
#include "twins.h"

namespace gpuferry {
namespace {

CUDA_MEMCPY3D as_3d(const CUDA_MEMCPY2D& flat) {
    CUDA_MEMCPY3D copy{};
    copy.srcXInBytes = flat.srcXInBytes, copy.srcY = flat.srcY;
    copy.srcMemoryType = flat.srcMemoryType, copy.srcHost = flat.srcHost;
    copy.srcDevice = flat.srcDevice, copy.srcArray = flat.srcArray, copy.srcPitch = flat.srcPitch;
    copy.dstXInBytes = flat.dstXInBytes, copy.dstY = flat.dstY;
    copy.dstMemoryType = flat.dstMemoryType, copy.dstHost = flat.dstHost;
    copy.dstDevice = flat.dstDevice, copy.dstArray = flat.dstArray, copy.dstPitch = flat.dstPitch;
    copy.WidthInBytes = flat.WidthInBytes, copy.Height = flat.Height, copy.Depth = 1;
    return copy;
}

bool is_device_address(CUdeviceptr address) {
    CUdeviceptr base = 0;
    Stretch stretch;
    return device_memory().find(address, base, stretch);
}

// An address of either kind of memory becomes one of its own kind.
void resolve_unified(CUDA_MEMCPY3D& copy) {
    if (copy.srcMemoryType == CU_MEMORYTYPE_UNIFIED) {
        copy.srcMemoryType = is_device_address(copy.srcDevice) ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        if (copy.srcMemoryType == CU_MEMORYTYPE_HOST) copy.srcHost = reinterpret_cast<const void*>(copy.srcDevice);
    }
    if (copy.dstMemoryType == CU_MEMORYTYPE_UNIFIED) {
        copy.dstMemoryType = is_device_address(copy.dstDevice) ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        if (copy.dstMemoryType == CU_MEMORYTYPE_HOST) copy.dstHost = reinterpret_cast<void*>(copy.dstDevice);
    }
    if (!copy.srcPitch) copy.srcPitch = copy.WidthInBytes + copy.srcXInBytes;
    if (!copy.dstPitch) copy.dstPitch = copy.WidthInBytes + copy.dstXInBytes;
    if (!copy.srcHeight) copy.srcHeight = copy.Height + copy.srcY;
    if (!copy.dstHeight) copy.dstHeight = copy.Height + copy.dstY;
}

const char* source_row(const CUDA_MEMCPY3D& copy, size_t y, size_t z) {
    return static_cast<const char*>(copy.srcHost) + ((copy.srcZ + z) * copy.srcHeight + copy.srcY + y) * copy.srcPitch +
           copy.srcXInBytes;
}

char* destination_row(const CUDA_MEMCPY3D& copy, size_t y, size_t z) {
    return static_cast<char*>(copy.dstHost) + ((copy.dstZ + z) * copy.dstHeight + copy.dstY + y) * copy.dstPitch +
           copy.dstXInBytes;
}

// Cuts a copy into boxes of at most `copy_chunk` bytes: part of a row, or some rows of one layer.
template <class Each>
CUresult for_each_box(const CUDA_MEMCPY3D& copy, Each each) {
    const size_t width = std::min<size_t>(copy.WidthInBytes, copy_chunk);
    const size_t rows = std::max<size_t>(1, copy_chunk / width);
    for (size_t z = 0; z < copy.Depth; ++z) {
        for (size_t y = 0; y < copy.Height; y += rows) {
            for (size_t x = 0; x < copy.WidthInBytes; x += width) {
                CUDA_MEMCPY3D box = copy;
                box.WidthInBytes = std::min(width, copy.WidthInBytes - x);
                box.Height = std::min(rows, copy.Height - y);
                box.Depth = 1;
                box.srcXInBytes += x, box.srcY += y, box.srcZ += z;
                box.dstXInBytes += x, box.dstY += y, box.dstZ += z;
                if (const CUresult failure = each(box)) return failure;
            }
        }
    }
    return CUDA_SUCCESS;
}

CUresult send_box(const CUDA_MEMCPY3D& box, CUstream stream) {
    std::vector<char> packed(box.WidthInBytes * box.Height);
    for (size_t y = 0; y < box.Height; ++y) {
        std::memcpy(packed.data() + y * box.WidthInBytes, source_row(box, y, 0), box.WidthInBytes);
    }
    Call call(Op::shape_in);
    call.value(box);
    call.handle(Kind::stream, stream);
    call.value<uint64_t>(packed.size());
    call.bytes(packed);
    return call.post();
}

CUresult fetch_box(const CUDA_MEMCPY3D& box, CUstream stream) {
    std::vector<char> packed(box.WidthInBytes * box.Height);
    Call call(Op::shape_out);
    call.value(box);
    call.handle(Kind::stream, stream);
    call.receive_into(packed.data(), packed.size());
    call.ask();
    if (call.result()) return call.result();
    for (size_t y = 0; y < box.Height; ++y) {
        std::memcpy(destination_row(box, y, 0), packed.data() + y * box.WidthInBytes, box.WidthInBytes);
    }
    return CUDA_SUCCESS;
}

CUresult copy_on_host(const CUDA_MEMCPY3D& copy, CUstream stream) {
    if (const CUresult failure = shim::cuStreamSynchronize(stream)) return failure;
    for (size_t z = 0; z < copy.Depth; ++z) {
        for (size_t y = 0; y < copy.Height; ++y) {
            std::memmove(destination_row(copy, y, z), source_row(copy, y, z), copy.WidthInBytes);
        }
    }
    return CUDA_SUCCESS;
}

struct Side {
    CUmemorytype type;
    CUdeviceptr device;
    CUarray array;
    const void* host;
    size_t pitch, height, x, y, z;
};

Side source_of(const CUDA_MEMCPY3D& copy) {
    return {copy.srcMemoryType, copy.srcDevice,   copy.srcArray, copy.srcHost, copy.srcPitch,
            copy.srcHeight,     copy.srcXInBytes, copy.srcY,     copy.srcZ};
}

Side destination_of(const CUDA_MEMCPY3D& copy) {
    return {copy.dstMemoryType, copy.dstDevice,   copy.dstArray, copy.dstHost, copy.dstPitch,
            copy.dstHeight,     copy.dstXInBytes, copy.dstY,     copy.dstZ};
}

// Where in linear memory a side's byte `x` of row `y` of layer `z` lies; false when that does not fit in 64 bits.
bool find_offset(const Side& side, size_t x, size_t y, size_t z, uint64_t& offset) {
    return !__builtin_mul_overflow(z, side.height, &offset) && !__builtin_add_overflow(offset, y, &offset) &&
           !__builtin_mul_overflow(offset, side.pitch, &offset) && !__builtin_add_overflow(offset, x, &offset);
}

// From the side's pointer to the first byte that is copied, and to behind the last one.
bool find_extent(const Side& side, const CUDA_MEMCPY3D& copy, uint64_t& first, uint64_t& end) {
    first = end = 0;
    if (!copy.WidthInBytes || !copy.Height || !copy.Depth) return true;
    size_t x = 0, y = 0, z = 0;
    return !__builtin_add_overflow(side.x, copy.WidthInBytes, &x) &&
           !__builtin_add_overflow(side.y, copy.Height - 1, &y) &&
           !__builtin_add_overflow(side.z, copy.Depth - 1, &z) && side.pitch >= x &&
           find_offset(side, side.x, side.y, side.z, first) && find_offset(side, x, y, z, end);
}

// What the call itself reports: a side that is no memory of its kind, or not all of it; rows that overlap.
CUresult check_side(const Side& side, const CUDA_MEMCPY3D& copy) {
    if (side.type == CU_MEMORYTYPE_ARRAY) {
        if (!handles_table().living(Kind::array, to_handle(side.array))) return CUDA_ERROR_INVALID_HANDLE;
        return array_holds(side.array, side.x, side.y, side.z, copy) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    uint64_t first = 0, end = 0;
    if (!find_extent(side, copy, first, end)) return CUDA_ERROR_INVALID_VALUE;
    switch (side.type) {
        case CU_MEMORYTYPE_HOST:
            return side.host ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
        case CU_MEMORYTYPE_DEVICE:
            return is_device_address(side.device) && device_memory().holds(side.device + first, end - first)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_VALUE;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult check_sides(const CUDA_MEMCPY3D& copy) {
    const CUresult failure = check_side(source_of(copy), copy);
    return failure ? failure : check_side(destination_of(copy), copy);
}

// Host memory by its address on the server. The twin holds everything from the host pointer on to the last row's end.
CUresult localise_host(Server& server, const Side& side, const CUDA_MEMCPY3D& copy, uint64_t& address) {
    uint64_t first = 0, end = 0;
    if (!find_extent(side, copy, first, end)) return CUDA_ERROR_INVALID_VALUE;
    return find_server_address(server, side.host, end, address);
}

CUresult copy_shape_captured(CUDA_MEMCPY3D copy, CUstream stream) {
    if (const CUresult failure = localise_copy(server_of_stream(stream), copy)) return failure;
    Call call(Op::shape_captured);
    call.value(copy);
    call.handle(Kind::stream, stream);
    call.ask();
    return call.result();
}

// The context of the memory of a side; null for host memory. Levels of mipmapped arrays have any of their server's.
const Context* context_of_side(CUmemorytype type, CUdeviceptr address, CUarray array) {
    if (type == CU_MEMORYTYPE_DEVICE) return context_around(address);
    if (type != CU_MEMORYTYPE_ARRAY || !handles_table().living(Kind::array, to_handle(array))) return nullptr;
    const Context* context = context_of_array(to_handle(array));
    return context ? context : client().server_of(to_handle(array)).primary;
}

// A box from one server to another: packed in this process on its way.
CUresult carry_box(const CUDA_MEMCPY3D& box, const Context& to, const Context& from) {
    std::vector<char> packed(box.WidthInBytes * box.Height);
    CUDA_MEMCPY3D down = box, up = box;
    down.dstMemoryType = CU_MEMORYTYPE_HOST, down.dstHost = packed.data();
    down.dstPitch = box.WidthInBytes, down.dstHeight = box.Height;
    down.dstXInBytes = down.dstY = down.dstZ = 0;
    up.srcMemoryType = CU_MEMORYTYPE_HOST, up.srcHost = packed.data();
    up.srcPitch = box.WidthInBytes, up.srcHeight = box.Height;
    up.srcXInBytes = up.srcY = up.srcZ = 0;
    {
        const ContextScope scope(from);
        if (const CUresult failure = fetch_box(down, nullptr)) return failure;
    }
    const ContextScope scope(to);
    return send_box(up, nullptr);
}

CUresult copy_shape(CUDA_MEMCPY3D copy, CUstream stream, bool blocking);

// What concerns memory of another server than the stream's. `done` is false when nothing does.
CUresult copy_shape_elsewhere(const CUDA_MEMCPY3D& copy, CUstream stream, bool blocking, bool& done) {
    const Server* here = &server_of_stream(stream);
    const Context* from = context_of_side(copy.srcMemoryType, copy.srcDevice, copy.srcArray);
    const Context* to = context_of_side(copy.dstMemoryType, copy.dstDevice, copy.dstArray);
    done = (from && from->server != here) || (to && to->server != here);
    if (!done) return CUDA_SUCCESS;
    if (from && to && from->server != to->server) {
        return do_elsewhere(to, stream, [&] {
            return for_each_box(copy, [&](const CUDA_MEMCPY3D& box) { return carry_box(box, *to, *from); });
        });
    }
    return do_elsewhere(to ? to : from, stream, [&] { return copy_shape(copy, nullptr, blocking); });
}

CUresult copy_shape(CUDA_MEMCPY3D copy, CUstream stream, bool blocking) {
    if (const CUresult failure = check_usable(current_context())) return failure;
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    if (copy.WidthInBytes == 0 || copy.Height == 0 || copy.Depth == 0) return CUDA_SUCCESS;
    bool capturing = false;
    CUresult failure = ask_capturing(stream, capturing);
    if (failure) return failure;
    if (capturing) return copy_shape_captured(copy, stream);
    resolve_unified(copy);
    failure = check_sides(copy);
    if (failure) return failure;
    if (client().has_several_servers()) {
        bool done = false;
        failure = copy_shape_elsewhere(copy, stream, blocking, done);
        if (done) return failure;
    }
    const bool from_host = copy.srcMemoryType == CU_MEMORYTYPE_HOST, to_host = copy.dstMemoryType == CU_MEMORYTYPE_HOST;
    if (from_host && to_host) return copy_on_host(copy, stream);
    if (from_host) {
        failure = for_each_box(copy, [&](const CUDA_MEMCPY3D& box) { return send_box(box, stream); });
        const bool pinned = blocking && host_memory().is_pinned(copy.srcHost, 1);
        return failure || !pinned ? failure : shim::cuStreamSynchronize(stream);
    }
    if (to_host) return for_each_box(copy, [&](const CUDA_MEMCPY3D& box) { return fetch_box(box, stream); });
    Call call(Op::shape_within);
    call.value(copy);
    call.handle(Kind::stream, stream);
    return call.post();
}

CUDA_MEMCPY3D line(size_t bytes) {
    CUDA_MEMCPY3D copy{};
    copy.WidthInBytes = bytes, copy.Height = 1, copy.Depth = 1;
    return copy;
}

CUresult to_array(CUarray array, size_t offset, const void* source, size_t bytes, CUstream stream, bool blocking) {
    CUDA_MEMCPY3D copy = line(bytes);
    copy.srcMemoryType = CU_MEMORYTYPE_HOST, copy.srcHost = source;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY, copy.dstArray = array, copy.dstXInBytes = offset;
    return copy_shape(copy, stream, blocking);
}

// Between arrays and linear memory of GPUs: on one server its driver does it.
CUresult array_copy(CUarray to, CUdeviceptr to_address, size_t to_offset, CUarray from, CUdeviceptr from_address,
                    size_t from_offset, size_t bytes) {
    CUDA_MEMCPY3D copy = line(bytes);
    copy.srcMemoryType = from ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE;
    copy.srcArray = from, copy.srcDevice = from_address, copy.srcXInBytes = from_offset;
    copy.srcPitch = copy.dstPitch = bytes, copy.srcHeight = copy.dstHeight = 1;
    copy.dstMemoryType = to ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE;
    copy.dstArray = to, copy.dstDevice = to_address, copy.dstXInBytes = to_offset;
    return copy_shape(copy, nullptr, true);
}

CUresult from_array(void* destination, CUarray array, size_t offset, size_t bytes, CUstream stream) {
    CUDA_MEMCPY3D copy = line(bytes);
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY, copy.srcArray = array, copy.srcXInBytes = offset;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST, copy.dstHost = destination;
    return copy_shape(copy, stream, true);
}

}  // namespace

CUresult localise_copy(Server& server, CUDA_MEMCPY3D& copy) {
    resolve_unified(copy);
    if (const CUresult failure = check_sides(copy)) return failure;
    uint64_t address = 0;
    if (copy.srcMemoryType == CU_MEMORYTYPE_HOST) {
        if (const CUresult failure = localise_host(server, source_of(copy), copy, address)) return failure;
        copy.srcHost = reinterpret_cast<const void*>(address);
    }
    if (copy.dstMemoryType == CU_MEMORYTYPE_HOST) {
        if (const CUresult failure = localise_host(server, destination_of(copy), copy, address)) return failure;
        copy.dstHost = reinterpret_cast<void*>(address);
    }
    return CUDA_SUCCESS;
}

namespace shim {

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* pCopy) {
    return pCopy ? copy_shape(as_3d(*pCopy), nullptr, true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* pCopy) {
    return pCopy ? copy_shape(as_3d(*pCopy), nullptr, true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
    return pCopy ? copy_shape(as_3d(*pCopy), hStream, false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* pCopy) {
    return pCopy ? copy_shape(*pCopy, nullptr, true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
    return pCopy ? copy_shape(*pCopy, hStream, false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice, size_t ByteCount) {
    if (!client().has_several_servers()) return forward_cuMemcpyDtoA_v2(dstArray, dstOffset, srcDevice, ByteCount);
    return array_copy(dstArray, 0, dstOffset, nullptr, srcDevice, 0, ByteCount);
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    if (!client().has_several_servers()) return forward_cuMemcpyAtoD_v2(dstDevice, srcArray, srcOffset, ByteCount);
    return array_copy(nullptr, dstDevice, 0, srcArray, 0, srcOffset, ByteCount);
}
CUresult cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    if (!client().has_several_servers()) {
        return forward_cuMemcpyAtoA_v2(dstArray, dstOffset, srcArray, srcOffset, ByteCount);
    }
    return array_copy(dstArray, 0, dstOffset, srcArray, 0, srcOffset, ByteCount);
}
CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void* srcHost, size_t ByteCount) {
    return to_array(dstArray, dstOffset, srcHost, ByteCount, nullptr, true);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void* srcHost, size_t ByteCount,
                              CUstream hStream) {
    return to_array(dstArray, dstOffset, srcHost, ByteCount, hStream, false);
}
CUresult cuMemcpyAtoH_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    return from_array(dstHost, srcArray, srcOffset, ByteCount, nullptr);
}
CUresult cuMemcpyAtoHAsync_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount, CUstream hStream) {
    return from_array(dstHost, srcArray, srcOffset, ByteCount, hStream);
}

}  // namespace shim
}  // namespace gpuferry
