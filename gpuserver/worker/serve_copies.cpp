// Copies between the client's host memory and device memory, through pinned staging.
#include "session.h"

namespace gpuferry::worker {
namespace {

// Issues a copy from device memory into a staging block, with the block's event behind it.
CUresult copy_to_staging(Session& session, CUdeviceptr source, uint64_t size, CUstream stream, Staged& staged) {
    if (size > copy_chunk) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = CUDA_SUCCESS;
    staged.size = size;
    staged.block = session.staging.take(size, session.current(), result, !session.host_functions.pending());
    if (!staged.block) return result;
    result = driver.cuMemcpyDtoHAsync_v2(staged.block->memory, source, size, stream);
    if (!result) result = driver.cuEventRecord(staged.block->event, stream);
    if (result) session.staging.give_back(std::move(staged.block));
    return result;
}

}  // namespace

void serve_copy_in(Request& in, Answer& out) {
    const auto destination = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    Session& session = in.session;
    if (!in.good() || size > copy_chunk || padded(size) + copy_in_fields != in.header.bytes) return out.refuse(in);
    auto block = session.staging.take(size, session.current(), out.result, !session.host_functions.pending());
    if (!block) return;
    session.take_bulk(block->memory, size);
    out.result = driver.cuMemcpyHtoDAsync_v2(destination, block->memory, size, stream);
    if (!out.result) out.result = driver.cuEventRecord(block->event, stream);
    if (out.result) {
        session.staging.give_back(std::move(block));
    } else {
        session.staging.uploading(std::move(block));
    }
}

void serve_copy_out(Request& in, Answer& out) {
    const auto source = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    Session& session = in.session;
    if (!in.good() || !(in.header.flags & request_awaited)) return out.refuse(in);
    auto staged = std::make_shared<Staged>();
    out.result = copy_to_staging(session, source, size, stream, *staged);
    if (out.result) return;
    out.later = true;
    session.reply_when_staged(in.header.number, std::move(staged));
}

// The bytes travel with the first reply after the copy is complete.
void serve_copy_out_later(Request& in, Answer& out) {
    const auto source = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto number = in.value<uint64_t>();  // by which the client knows the destination
    const auto offset = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    PendingCopy copy{number, offset, {}};
    out.result = copy_to_staging(in.session, source, size, stream, copy.staged);
    if (!out.result) in.session.deliver_later(std::move(copy));
}

void serve_copy_within(Request& in, Answer& out) {
    const auto destination = in.value<uint64_t>();
    const auto source = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuMemcpyDtoDAsync_v2(destination, source, size, stream);
}

// Host memory named by its twin, which is read or written in the stream's turn; in a captured stream whenever the graph
// runs.
void serve_copy_by_twin(Request& in, Answer& out) {
    const auto destination = in.value<uint64_t>();
    const auto source = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto from_host = in.value<uint64_t>(), to_host = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    Twins& twins = in.session.twins;
    if (!in.good() || (from_host && !twins.holds(source, size)) || (to_host && !twins.holds(destination, size))) {
        return out.refuse(in);
    }
    if (from_host && !to_host) {
        out.result = driver.cuMemcpyHtoDAsync_v2(destination, reinterpret_cast<const void*>(source), size, stream);
    } else if (to_host && !from_host) {
        out.result = driver.cuMemcpyDtoHAsync_v2(reinterpret_cast<void*>(destination), source, size, stream);
    } else if (from_host) {
        out.result = driver.cuMemcpyAsync(destination, source, size, stream);
    } else {
        out.refuse(in);
    }
}

}  // namespace gpuferry::worker
