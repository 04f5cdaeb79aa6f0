#include "quiet_work.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>

#include "capture.h"
#include "device_memory.h"
#include "host_functions.h"
#include "stream_values.h"
#include "twins.h"

namespace gpuferry {
namespace {

// The highest number of a loud request, by stream. Streams that share a place only make each other look busier.
constexpr size_t places = 256;
std::array<std::atomic<uint64_t>, places> last_loud;
std::atomic<uint64_t> last_loud_unnamed = 0;  // of work that names no stream

constexpr uint64_t several_streams = unknown_stream;
std::atomic<uint64_t> loud_stream = 0;  // the key of the one stream that has had loud work; 0 for none so far

std::mutex lock;
// By stream: the last request that waited for it.
std::map<uint64_t, uint64_t>& waited() {
    static auto* all = new std::map<uint64_t, uint64_t>;
    return *all;
}

void raise(std::atomic<uint64_t>& highest, uint64_t number) {
    uint64_t known = highest.load(std::memory_order_relaxed);
    while (known < number && !highest.compare_exchange_weak(known, number)) {
    }
}

std::atomic<uint64_t>& loud_of(uint64_t stream_key) {
    return last_loud[(stream_key * 0x9e37'79b9'7f4a'7c15) >> 56];
}

uint64_t waited_for(uint64_t stream_key) {
    const std::lock_guard held(lock);
    const auto found = waited().find(stream_key);
    return found == waited().end() ? 0 : found->second;
}

// No loud work of the stream that nobody has waited for.
bool is_settled(uint64_t stream_key) {
    return loud_of(stream_key).load() <= waited_for(stream_key);
}

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
    // No handle begins like the complement of one. The default stream has two names.
    const uint64_t which = from_handle<CUstream>(stream) == CU_STREAM_LEGACY ? 0 : stream;
    return ~context->handle ^ which << 62;
}

void note_loud(uint64_t stream_key, uint64_t number) {
    uint64_t known = loud_stream.load(std::memory_order_relaxed);
    if (known != stream_key && known != several_streams) {
        if (known || !loud_stream.compare_exchange_strong(known, stream_key)) loud_stream = several_streams;
    }
    raise(stream_key == unknown_stream ? last_loud_unnamed : loud_of(stream_key), number);
}

void note_waited(uint64_t stream_key, uint64_t number) {
    const std::lock_guard held(lock);
    uint64_t& known = waited()[stream_key];
    known = std::max(known, number);
}

bool holds_only_quiet_work(CUstream stream) {
    const Context* context = current_context();
    if (!context || context->sticky) return false;
    const uint64_t key = stream_key(context, resolve_stream(stream));
    if (!is_settled(key) || last_loud_unnamed.load() > waited_for(key)) return false;
    // Numbers are of one server; a process of the same lease may share memory that the uploads fill.
    if (client().has_several_servers() || capture_under_way() || host_functions_pending() || value_wait_pending() ||
        device_memory().account().is_shared()) {
        return false;
    }
    const uint64_t loud = loud_stream.load();
    if (!loud || loud == key) return true;
    // Others have work. It must not hold these uploads up, which it does through the default stream, and must not wait
    // for memory that it shares with the program.
    const uint64_t default_stream = stream_key(context, 0);
    return key != default_stream && is_settled(default_stream) && !any_twin();
}

}  // namespace gpuferry
