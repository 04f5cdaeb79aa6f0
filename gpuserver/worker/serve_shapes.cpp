// Copies of rectangles and boxes. The host's side is packed: the client gathers and scatters its rows itself.
#include "session.h"

namespace gpuferry::worker {
namespace {

uint64_t packed_bytes(const CUDA_MEMCPY3D& copy) {
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(copy.WidthInBytes, copy.Height, &bytes)) return ~uint64_t{0};
    if (__builtin_mul_overflow(bytes, copy.Depth, &bytes)) return ~uint64_t{0};
    return bytes;
}

// The whole of a request ahead of its bytes: nothing but these kinds of memory may be named.
bool is_device_side(CUmemorytype type) {
    return type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_ARRAY;
}

}  // namespace

void serve_shape_in(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto size = in.value<uint64_t>();
    const char* bytes = in.fields().take_bytes(size);
    Session& session = in.session;
    if (!in.good() || !is_device_side(copy.dstMemoryType) || size != packed_bytes(copy) || size > copy_chunk) {
        return out.refuse(in);
    }
    copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;  // the host's side becomes a staging block
    if (!localise(in, copy)) return out.refuse(in);
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    auto block = session.staging.take(size, session.current(), out.result);
    if (!block) return;
    std::memcpy(block->memory, bytes, size);
    copy.srcHost = block->memory;
    copy.srcXInBytes = copy.srcY = copy.srcZ = copy.srcLOD = 0;
    copy.srcPitch = copy.WidthInBytes;
    copy.srcHeight = copy.Height;
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
    if (!out.result) out.result = driver.cuEventRecord(block->event, stream);
    if (out.result) {
        session.staging.give_back(std::move(block));
    } else {
        session.staging.uploading(std::move(block));
    }
}

void serve_shape_out(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    Session& session = in.session;
    const uint64_t size = packed_bytes(copy);
    if (!in.good() || !(in.header.flags & request_awaited) || !is_device_side(copy.srcMemoryType) ||
        size > copy_chunk) {
        return out.refuse(in);
    }
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    if (!localise(in, copy)) return out.refuse(in);
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    auto staged = std::make_shared<Staged>();
    staged->size = size;
    staged->block = session.staging.take(size, session.current(), out.result);
    if (!staged->block) return;
    copy.dstHost = staged->block->memory;
    copy.dstXInBytes = copy.dstY = copy.dstZ = copy.dstLOD = 0;
    copy.dstPitch = copy.WidthInBytes;
    copy.dstHeight = copy.Height;
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
    if (!out.result) out.result = driver.cuEventRecord(staged->block->event, stream);
    if (out.result) {
        session.staging.give_back(std::move(staged->block));
        return;
    }
    out.later = true;
    session.reply_when_staged(in.header.number, std::move(staged));
}

void serve_shape_within(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !is_device_side(copy.srcMemoryType) || !is_device_side(copy.dstMemoryType)) return out.refuse(in);
    if (!localise(in, copy)) return out.refuse(in);
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
}

// In a captured stream: host memory is named by its twin, and read and written whenever the graph runs.
void serve_shape_captured(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !localise(in, copy)) return out.refuse(in);
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
}

}  // namespace gpuferry::worker
