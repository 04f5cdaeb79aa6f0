#include "quiet_work.h"

#include <atomic>

#include "capture.h"
#include "device_memory.h"
#include "host_functions.h"
#include "stream_values.h"

namespace gpuferry {
namespace {

constexpr uint64_t several_streams = unknown_stream;

std::atomic<uint64_t> last_loud = 0;    // the highest number of a loud request
std::atomic<uint64_t> loud_stream = 0;  // the key of the one stream that has had loud work; 0 for none so far

}  // namespace

bool is_quiet(Op op) {
    switch (op) {
        case Op::copy_in:
        case Op::copy_out:  // who asks for these waits for them
        case Op::shape_out:
        case Op::settle_stream:
        case Op::wait_stream:
        case Op::query_stream:
        case Op::wait_event:
        case Op::query_event:
        case Op::wait_context:
        case Op::map_memory:
        case Op::unmap_memory:
        case Op::set_rights:
        case Op::fence_memory:
        case Op::create_physical:
        case Op::release_physical:
        case Op::map_physical:
        case Op::unmap_physical:
        case Op::cuMemSetAccess:
        case Op::load_image:
        case Op::unload_image:
        case Op::find_function:
        case Op::find_global:
        case Op::library_module:
        case Op::set_function_attribute:
            return true;
        default:
            return op_class(op) == CallClass::create;
    }
}

uint64_t stream_key(const Context* context, Handle stream) {
    if (stream > 2 || !context) return stream > 2 ? stream : unknown_stream;
    // No handle begins like the complement of one.
    return ~context->handle ^ uint64_t{stream} << 62;
}

void note_loud(uint64_t stream_key, uint64_t number) {
    uint64_t known = loud_stream.load(std::memory_order_relaxed);
    if (known != stream_key && known != several_streams) {
        if (known || !loud_stream.compare_exchange_strong(known, stream_key)) loud_stream = several_streams;
    }
    uint64_t highest = last_loud.load(std::memory_order_relaxed);
    while (highest < number && !last_loud.compare_exchange_weak(highest, number)) {
    }
}

bool holds_only_quiet_work(CUstream stream) {
    const uint64_t since = stream_idle_since(stream);
    if (!since || last_loud.load() > since) return false;
    const uint64_t loud = loud_stream.load();
    if (loud && loud != stream_key(current_context(), resolve_stream(stream))) return false;
    // Numbers are of one server; a process of the same lease may share memory that the uploads fill.
    return !client().has_several_servers() && !capture_under_way() && !host_functions_pending() &&
           !value_wait_pending() && !device_memory().account().is_shared();
}

}  // namespace gpuferry
