#include "host_functions.h"

#include <signal.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "call.h"
#include "capture.h"
#include "entry.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

struct Known {
    HostFunction function;
    Server* server = nullptr;  // whose stream or graph it belongs to
    bool stays = false;
};

std::mutex lock;
std::condition_variable& more = *new std::condition_variable;  // never destroyed: a thread waits for it at exit
uint64_t last_id = 0;
std::atomic<bool> used = false;
thread_local bool inside = false;

std::map<uint64_t, Known>& functions() {
    static auto* all = new std::map<uint64_t, Known>;
    return *all;
}
std::deque<uint64_t>& turns() {
    static auto* all = new std::deque<uint64_t>;
    return *all;
}

void call_function(const HostFunction& known) {
    inside = true;
    if (known.callback) {
        known.callback(known.stream, CUDA_SUCCESS, known.data);
    } else {
        known.function(known.data);
    }
    inside = false;
}

// Threads of their own run the functions: they may take their time, and replies go on arriving. There is one for each
// turn that has come, because functions of different streams and branches may wait for each other; those of one stream
// come one after the other.
size_t free_threads = 0;

void run_functions() {
    pthread_setname_np(pthread_self(), "gpuferry-host");
    std::unique_lock held(lock);
    while (true) {
        ++free_threads;
        more.wait(held, [] { return !turns().empty(); });
        --free_threads;
        const uint64_t id = turns().front();
        turns().pop_front();
        const auto found = functions().find(id);
        if (found == functions().end()) continue;
        const Known known = found->second;
        held.unlock();
        call_function(known.function);
        // What the function wrote to memory that the device sees is there when the stream goes on.
        prepare_device_work(*known.server);
        Call call(Op::host_function_done);
        call.go_to(*known.server);
        call.value<uint64_t>(id);
        call.post_anywhere();
        held.lock();
        if (!known.stays) {
            functions().erase(id);
            known.server->link->listen(false);
        }
    }
}

void start_thread() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread(run_functions).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

CUresult post_host_function(CUstream stream, const HostFunction& function) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    const uint64_t id = add_host_function(server_of_stream(stream), function, capturing);
    Call call(Op::run_on_host);
    call.value<uint64_t>(id);
    call.value<uint64_t>(capturing);
    call.handle(Kind::stream, stream);
    const CUresult result = call.post();
    if (result) remove_host_function(id);
    return result;
}

uint64_t add_host_function(Server& server, const HostFunction& function, bool stays) {
    uint64_t id = 0;
    {
        const std::lock_guard held(lock);
        id = ++last_id;
        functions()[id] = {function, &server, stays};
        if (!used.exchange(true)) update_entry_mode();
    }
    server.link->listen(true);
    return id;
}

void remove_host_function(uint64_t id) {
    const std::lock_guard held(lock);
    const auto found = functions().find(id);
    if (found == functions().end()) return;
    found->second.server->link->listen(false);
    functions().erase(found);
}

bool find_host_function(uint64_t id, HostFunction& function) {
    const std::lock_guard held(lock);
    const auto found = functions().find(id);
    if (found == functions().end()) return false;
    function = found->second.function;
    return true;
}

bool inside_host_function() {
    return inside;
}

bool host_functions_used() {
    return used;
}

void run_host_function(const Server& server, uint64_t id) {
    const std::lock_guard held(lock);
    const auto found = functions().find(id);
    if (found == functions().end() || found->second.server != &server) return;
    turns().push_back(id);
    if (turns().size() > free_threads) start_thread();
    more.notify_one();
}

bool host_functions_pending() {
    const std::lock_guard held(lock);
    return !functions().empty();
}

namespace shim {

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void* userData) {
    if (!fn) return CUDA_ERROR_INVALID_VALUE;
    return post_host_function(hStream, {fn, userData, nullptr, nullptr});
}

CUresult cuLaunchHostFunc_v2(CUstream hStream, CUhostFn fn, void* userData, unsigned syncMode) {
    return syncMode > CU_HOST_TASK_SPINWAIT ? CUDA_ERROR_INVALID_VALUE : shim::cuLaunchHostFunc(hStream, fn, userData);
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void* userData, unsigned flags) {
    if (!callback || flags) return CUDA_ERROR_INVALID_VALUE;
    return post_host_function(hStream, {nullptr, userData, callback, hStream});
}

}  // namespace shim
}  // namespace gpuferry
