// cuMemcpy2D*, cuMemcpy3D*, copies between host memory and arrays: the host's rows are gathered into packed pieces, and
// scattered from them.
#include "shapes.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "arrays.h"
#include "between_servers.h"
#include "copies.h"
#include "deliveries.h"
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

// A box that was asked for, and where its bytes arrive.
struct Fetch {
    Fetch(const CUDA_MEMCPY3D& box, CUstream stream) : box(box), packed(box.WidthInBytes * box.Height) {
        call.value(box);
        call.handle(Kind::stream, stream);
        call.receive_into(packed.data(), packed.size());
    }

    CUDA_MEMCPY3D box;
    std::vector<char> packed;
    Call call{Op::shape_out};
};

CUresult finish(Fetch& fetch, bool last) {
    fetch.call.await(last);
    if (fetch.call.result()) return fetch.call.result();
    const CUDA_MEMCPY3D& box = fetch.box;
    for (size_t y = 0; y < box.Height; ++y) {
        std::memcpy(destination_row(box, y, 0), fetch.packed.data() + y * box.WidthInBytes, box.WidthInBytes);
    }
    return CUDA_SUCCESS;
}

// Waits until all boxes are there, several on the way at once: one round trip.
CUresult fetch_boxes(const CUDA_MEMCPY3D& copy, CUstream stream) {
    std::deque<std::unique_ptr<Fetch>> on_the_way;
    CUresult result = for_each_box(copy, [&](const CUDA_MEMCPY3D& box) {
        on_the_way.push_back(std::make_unique<Fetch>(box, stream));
        if (!on_the_way.back()->call.begin(false)) {
            const CUresult failure = on_the_way.back()->call.result();
            on_the_way.pop_back();
            return failure;
        }
        if (on_the_way.size() < pieces_on_the_way) return CUDA_SUCCESS;
        const CUresult failure = finish(*on_the_way.front(), false);
        on_the_way.pop_front();
        return failure;
    });
    uint64_t last = 0;
    for (; !on_the_way.empty(); on_the_way.pop_front()) {
        const CUresult failure = finish(*on_the_way.front(), on_the_way.size() == 1);
        last = on_the_way.front()->call.number();
        if (!result) result = failure;
    }
    if (!result && last) note_stream_idle(stream, last);
    return result;
}

// The bytes arrive with a later reply, at the latest with the one of the call that waits for the stream.
CUresult fetch_box_later(const CUDA_MEMCPY3D& box, CUstream stream) {
    const uint64_t number = expect_rows(destination_row(box, 0, 0), box.WidthInBytes, box.dstPitch, box.Height);
    Call call(Op::shape_out_later);
    call.value(box);
    call.handle(Kind::stream, stream);
    call.value<uint64_t>(number);
    const CUresult failure = call.post();
    if (failure) forget_copy(number);
    return failure;
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

// The host's side is named by its twin, and read or written in the stream's turn: in a captured stream whenever the
// graph runs, else when what the stream does before is done.
CUresult copy_shape_by_twin(CUDA_MEMCPY3D copy, CUstream stream, bool capturing) {
    Server& server = server_of_stream(stream);
    if (const CUresult failure = localise_copy(server, copy)) return failure;
    if (!capturing) {
        if (const CUresult failure = prepare_device_work(server)) return failure;
    }
    Call call(Op::shape_by_twin);
    call.value(copy);
    call.handle(Kind::stream, stream);
    if (!capturing) return call.post();
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
        if (const CUresult failure = fetch_boxes(down, nullptr)) return failure;
    }
    const ContextScope scope(to);
    return send_box(up, nullptr);
}

// The bytes that a side in host memory takes.
std::span<const char> host_extent(const Side& side, const CUDA_MEMCPY3D& copy) {
    uint64_t first = 0, end = 0;
    find_extent(side, copy, first, end);  // `check_sides` has seen that it has one
    return {static_cast<const char*>(side.host) + first, end - first};
}

CUresult send_shape(const CUDA_MEMCPY3D& copy, CUstream stream, bool blocking) {
    const std::span<const char> source = host_extent(source_of(copy), copy);
    CUresult failure = CUDA_SUCCESS;
    if (copy_pending(source.data(), source.size())) {
        failure = shim::cuCtxSynchronize();
    } else if (is_unsettled(source.data(), source.size())) {
        failure = copy_shape_by_twin(copy, stream, false);
        return failure || !blocking ? failure : shim::cuStreamSynchronize(stream);
    }
    if (!failure) failure = for_each_box(copy, [&](const CUDA_MEMCPY3D& box) { return send_box(box, stream); });
    const bool pinned = blocking && host_memory().is_pinned(source.data(), source.size());
    return failure || !pinned ? failure : shim::cuStreamSynchronize(stream);
}

CUresult fetch_shape(const CUDA_MEMCPY3D& copy, CUstream stream, bool blocking) {
    // The stream may be waiting for what the program has written to memory that the device sees.
    if (const CUresult failure = prepare_device_work(server_of_stream(stream))) return failure;
    const std::span<const char> destination = host_extent(destination_of(copy), copy);
    if (in_twin(destination.data(), destination.size())) {  // the device may read it
        const CUresult failure = copy_shape_by_twin(copy, stream, false);
        return failure || !blocking ? failure : shim::cuStreamSynchronize(stream);
    }
    if (!blocking && host_memory().is_pinned(destination.data(), destination.size())) {
        return for_each_box(copy, [&](const CUDA_MEMCPY3D& box) { return fetch_box_later(box, stream); });
    }
    return fetch_boxes(copy, stream);
}

CUresult copy_shape(CUDA_MEMCPY3D copy, CUstream stream, bool blocking);

// What concerns memory of another server than the stream's. `done` is false when nothing does.
CUresult copy_shape_elsewhere(const CUDA_MEMCPY3D& copy, CUstream stream, bool& done) {
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
    return do_elsewhere(to ? to : from, stream, [&] { return copy_shape(copy, nullptr, true); });
}

CUresult copy_shape(CUDA_MEMCPY3D copy, CUstream stream, bool blocking) {
    if (const CUresult failure = check_usable(current_context())) return failure;
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    if (copy.WidthInBytes == 0 || copy.Height == 0 || copy.Depth == 0) return CUDA_SUCCESS;
    bool capturing = false;
    CUresult failure = ask_capturing(stream, capturing);
    if (failure) return failure;
    if (capturing) return copy_shape_by_twin(copy, stream, true);
    resolve_unified(copy);
    failure = check_sides(copy);
    if (failure) return failure;
    if (client().has_several_servers()) {
        bool done = false;
        failure = copy_shape_elsewhere(copy, stream, done);
        if (done) return failure;
    }
    const bool from_host = copy.srcMemoryType == CU_MEMORYTYPE_HOST, to_host = copy.dstMemoryType == CU_MEMORYTYPE_HOST;
    if (from_host && to_host) return copy_on_host(copy, stream);
    if (from_host) return send_shape(copy, stream, blocking);
    if (to_host) return fetch_shape(copy, stream, blocking);
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

CUresult from_array(void* destination, CUarray array, size_t offset, size_t bytes, CUstream stream, bool blocking) {
    CUDA_MEMCPY3D copy = line(bytes);
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY, copy.srcArray = array, copy.srcXInBytes = offset;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST, copy.dstHost = destination;
    return copy_shape(copy, stream, blocking);
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
    return from_array(dstHost, srcArray, srcOffset, ByteCount, nullptr, true);
}
CUresult cuMemcpyAtoHAsync_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount, CUstream hStream) {
    return from_array(dstHost, srcArray, srcOffset, ByteCount, hStream, false);
}

}  // namespace shim
}  // namespace gpuferry
