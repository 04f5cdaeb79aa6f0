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

// Issues a copy of a shape into a staging block, packed, with the block's event behind it; false where that failed.
bool shape_to_staging(Request& in, Answer& out, CUDA_MEMCPY3D copy, CUstream stream, Staged& staged) {
    Session& session = in.session;
    staged.size = packed_bytes(copy);
    if (!is_device_side(copy.srcMemoryType) || staged.size > copy_chunk) {
        out.refuse(in);
        return false;
    }
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;  // the host's side becomes the block
    if (!localise(in, copy)) {
        out.refuse(in);
        return false;
    }
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    staged.block = session.staging.take(staged.size, session.current(), out.result, !session.host_functions.pending());
    if (!staged.block) return false;
    copy.dstHost = staged.block->memory;
    copy.dstXInBytes = copy.dstY = copy.dstZ = copy.dstLOD = 0;
    copy.dstPitch = copy.WidthInBytes;
    copy.dstHeight = copy.Height;
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
    if (!out.result) out.result = driver.cuEventRecord(staged.block->event, stream);
    if (out.result) session.staging.give_back(std::move(staged.block));
    return !out.result;
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
    auto block = session.staging.take(size, session.current(), out.result, !session.host_functions.pending());
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
    const auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !(in.header.flags & request_awaited)) return out.refuse(in);
    auto staged = std::make_shared<Staged>();
    if (!shape_to_staging(in, out, copy, stream, *staged)) return;
    out.later = true;
    in.session.reply_when_staged(in.header.number, std::move(staged));
}

// The bytes travel with the first reply after the copy is complete.
void serve_shape_out_later(Request& in, Answer& out) {
    const auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto number = in.value<uint64_t>();  // by which the client knows the destination
    if (!in.good()) return out.refuse(in);
    PendingCopy pending{number, 0, {}};
    if (shape_to_staging(in, out, copy, stream, pending.staged)) in.session.deliver_later(std::move(pending));
}

void serve_shape_within(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !is_device_side(copy.srcMemoryType) || !is_device_side(copy.dstMemoryType)) return out.refuse(in);
    if (!localise(in, copy)) return out.refuse(in);
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
}

// Host memory named by its twin, which is read or written in the stream's turn; in a captured stream whenever the graph
// runs.
void serve_shape_by_twin(Request& in, Answer& out) {
    auto copy = in.value<CUDA_MEMCPY3D>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good() || !localise(in, copy)) return out.refuse(in);
    out.result = driver.cuMemcpy3DAsync_v2(&copy, stream);
}

}  // namespace gpuferry::worker
