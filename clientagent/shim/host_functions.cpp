#include "host_functions.h"

#include <signal.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "call.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

std::mutex lock;
std::condition_variable& more = *new std::condition_variable;  // never destroyed: a thread waits for it at exit
uint64_t last_id = 0;
std::map<uint64_t, std::function<void()>>& functions() {
    static auto* all = new std::map<uint64_t, std::function<void()>>;
    return *all;
}
std::deque<uint64_t>& turns() {
    static auto* all = new std::deque<uint64_t>;
    return *all;
}

// A thread of their own runs the functions, one after the other: they may take their time, and replies go on arriving.
void run_functions() {
    pthread_setname_np(pthread_self(), "gpuferry-host");
    std::unique_lock held(lock);
    while (true) {
        more.wait(held, [] { return !turns().empty(); });
        const uint64_t id = turns().front();
        turns().pop_front();
        const auto found = functions().find(id);
        if (found == functions().end()) continue;
        const std::function<void()> function = std::move(found->second);
        held.unlock();
        function();
        Call call(Op::host_function_done);
        call.value<uint64_t>(id);
        call.post_anywhere();
        held.lock();
        functions().erase(id);
        client().link()->listen(false);
    }
}

CUresult post_function(CUstream stream, std::function<void()> function) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t id = 0;
    {
        const std::lock_guard held(lock);
        static bool started = false;
        if (!started) {
            sigset_t all, before;
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before);
            std::thread(run_functions).detach();
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
            started = true;
        }
        id = ++last_id;
        functions()[id] = std::move(function);
    }
    client().link()->listen(true);
    Call call(Op::run_on_host);
    call.value<uint64_t>(id);
    call.handle(Kind::stream, stream);
    const CUresult result = call.post();
    if (result) {
        client().link()->listen(false);
        const std::lock_guard held(lock);
        functions().erase(id);
    }
    return result;
}

}  // namespace

void run_host_function(uint64_t id) {
    const std::lock_guard held(lock);
    turns().push_back(id);
    more.notify_one();
}

bool host_functions_pending() {
    const std::lock_guard held(lock);
    return !functions().empty();
}

namespace shim {

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void* userData) {
    if (!fn) return CUDA_ERROR_INVALID_VALUE;
    return post_function(hStream, [fn, userData] { fn(userData); });
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void* userData, unsigned flags) {
    if (!callback || flags) return CUDA_ERROR_INVALID_VALUE;
    return post_function(hStream, [=] { callback(hStream, CUDA_SUCCESS, userData); });
}

}  // namespace shim
}  // namespace gpuferry
