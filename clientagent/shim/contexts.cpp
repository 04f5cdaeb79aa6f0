// cuCtx*, cuDevicePrimaryCtx*: the stack of current contexts is the client's own.
#include "contexts.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "arrays.h"
#include "call.h"
#include "capture.h"
#include "device_memory.h"
#include "host_memory.h"
#include "peers.h"
#include "quiet_work.h"
#include "shim_calls.h"
#include "tables/slot_table.h"
#include "twins.h"

namespace gpuferry {
namespace {

std::vector<Context*>& primaries() {
    static auto* all = new std::vector<Context*>;
    return *all;
}
// Retaining, releasing and resetting them are one at a time.
std::mutex& primary_life() {
    static auto& mutex = *new std::mutex;
    return mutex;
}
std::atomic<unsigned long long> next_id = 1;

// A thread's own default stream in one context.
struct OwnStream {
    const Context* context = nullptr;
    Handle stream = 0;
};

// A thread's stack of contexts, and its own default streams. No destructors: calls may come after those have run.
constexpr int deepest_stack = 64;
struct ThreadState {
    Context* stack[deepest_stack + 4];  // and some for a `ContextScope` within another
    int depth;
    const Context* trusted;  // by a `ContextScope`
    bool per_thread_default;
    std::vector<OwnStream>* own;
    OwnStream last_own;  // in the context that the thread used last
    // The stream that was last waited for, and the request that waited.
    Handle idle_stream;
    const Context* idle_context;
    uint64_t idle_since;
};
thread_local ThreadState thread_state;

// A thread's own default streams end with the thread, and with them what they capture. The first thread ends with the
// process, which may still use them in what it does at exit.
struct EndOfThread {
    // Made, and so registered, by the first call in a thread.
    static void await() { static thread_local EndOfThread only; }

    ~EndOfThread() {
        if (gettid() == getpid() || client().state() != ClientState::ready) return;
        ThreadState& state = thread_state;
        const std::unique_ptr<std::vector<OwnStream>> own(std::exchange(state.own, nullptr));
        state.last_own = {};
        for (const OwnStream& entry : *own) {
            if (!handles_table().living(Kind::stream, entry.stream)) continue;
            shim::cuStreamDestroy_v2(from_handle<CUstream>(entry.stream));
        }
    }
};

bool serves(const OwnStream& own, const Context* context) {
    return own.context == context && handles_table().living(Kind::stream, own.stream);
}

OwnStream find_own_stream(const Context* context) {
    if (!thread_state.own) {
        thread_state.own = new std::vector<OwnStream>;
        EndOfThread::await();
    }
    std::vector<OwnStream>& all = *thread_state.own;
    const auto known = std::find_if(all.begin(), all.end(), [&](const OwnStream& own) { return serves(own, context); });
    if (known != all.end()) return *known;
    CUstream made = nullptr;
    if (shim::cuStreamCreate(&made, CU_STREAM_DEFAULT) != CUDA_SUCCESS) return {};
    std::erase_if(all, [](const OwnStream& own) { return !handles_table().living(Kind::stream, own.stream); });
    return all.emplace_back(context, to_handle(made));
}

Context* make_context(Handle handle, CUdevice device, bool primary, unsigned flags) {
    auto* context = new Context;
    context->handle = handle;
    context->server = client().device(device)->server;
    context->device = device;
    context->primary = primary;
    context->flags = flags;
    context->id = next_id++;
    return context;
}

// A context that the program may use: living, and if primary then held by somebody.
CUresult check(CUcontext handle, Context*& context) {
    bool known = true;
    context = find_context(handle, known);
    if (!known) return CUDA_ERROR_INVALID_CONTEXT;
    if (context && context->destroyed) return CUDA_ERROR_INVALID_CONTEXT;
    return CUDA_SUCCESS;
}

// Ends all that was made in a primary context. Who retained it still has to release it.
CUresult end_primary(Context* context) {
    if (!context->active.exchange(false)) return CUDA_SUCCESS;
    Call call(Op::reset_primary);
    call.device(context->device);
    context->sticky = CUDA_SUCCESS;
    context->id = next_id++;  // what comes when it is retained again is another context at the same address
    drop_context_local_storage(context);
    forget_arrays(context);
    device_memory().forget_device(context->device, context);
    host_memory().forget_context(context);
    forget_peers(context);
    return call.post_anywhere();
}

}  // namespace

void open_contexts(const Snapshot& snapshot) {
    for (size_t i = 0; i < snapshot.devices.size(); ++i) {
        Context* context = make_context(snapshot.devices[i].primary, static_cast<CUdevice>(i), true, 0);
        primaries().push_back(context);
        if (!context->server->primary) context->server->primary = context;
        handles_table().adopt(context->handle, context);
    }
}

Context* current_context() {
    const ThreadState& state = thread_state;
    return state.depth ? state.stack[state.depth - 1] : nullptr;
}

Server& current_server() {
    const Context* context = current_context();
    return context ? *context->server : client().home();
}

Server& server_of_stream(CUstream stream) {
    const Handle handle = resolve_stream(stream);
    return handles_table().living(Kind::stream, handle) ? client().server_of(handle) : current_server();
}

Context* primary_context(CUdevice device) {
    return primaries()[static_cast<size_t>(device)];
}

Context* find_context(CUcontext handle, bool& known) {
    known = true;
    if (!handle) return nullptr;
    auto* context = handles_table().find<Context>(Kind::context, to_handle(handle));
    known = context != nullptr;
    return context;
}

CUresult check_usable(const Context* context) {
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (context->destroyed) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    if (context->primary && !context->active && context != thread_state.trusted) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    return context->sticky;
}

bool is_sticky(CUresult error) {
    switch (error) {
        case CUDA_ERROR_ECC_UNCORRECTABLE:
        case CUDA_ERROR_NVLINK_UNCORRECTABLE:
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_LAUNCH_TIMEOUT:
        case CUDA_ERROR_ASSERT:
        case CUDA_ERROR_HARDWARE_STACK_ERROR:
        case CUDA_ERROR_ILLEGAL_INSTRUCTION:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_INVALID_ADDRESS_SPACE:
        case CUDA_ERROR_INVALID_PC:
        case CUDA_ERROR_LAUNCH_FAILED:
            return true;
        default:
            return false;
    }
}

PerThreadStreamScope::PerThreadStreamScope() : before_(thread_state.per_thread_default) {
    thread_state.per_thread_default = true;
}
PerThreadStreamScope::~PerThreadStreamScope() {
    thread_state.per_thread_default = before_;
}

ContextScope::ContextScope(const Context& context)
    : per_thread_before_(thread_state.per_thread_default), trusted_before_(thread_state.trusted) {
    thread_state.per_thread_default = false;
    thread_state.trusted = &context;
    thread_state.stack[thread_state.depth++] = const_cast<Context*>(&context);
}
ContextScope::~ContextScope() {
    --thread_state.depth;
    thread_state.trusted = trusted_before_;
    thread_state.per_thread_default = per_thread_before_;
}

Handle resolve_stream(CUstream stream) {
    ThreadState& state = thread_state;
    const bool own = stream == CU_STREAM_PER_THREAD || (!stream && state.per_thread_default);
    if (!own) return to_handle(stream);
    const Context* context = current_context();
    if (context && !serves(state.last_own, context)) state.last_own = find_own_stream(context);
    return context ? state.last_own.stream : 0;
}

void note_stream_idle(CUstream stream, uint64_t number) {
    ThreadState& state = thread_state;
    state.idle_stream = resolve_stream(stream);
    state.idle_context = current_context();
    state.idle_since = number;
    note_waited(stream_key(state.idle_context, state.idle_stream), number);
}

bool is_stream_idle(CUstream stream) {
    const ThreadState& state = thread_state;
    const Context* context = current_context();
    return context && !context->sticky && state.idle_context == context &&
           state.idle_stream == resolve_stream(stream) &&
           state.idle_since == server_of_stream(stream).link->last_number();
}

namespace shim {

CUresult cuCtxGetCurrent(CUcontext* pctx) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    const Context* context = current_context();
    *pctx = context ? from_handle<CUcontext>(context->handle) : nullptr;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
    Context* context = nullptr;
    if (const CUresult failure = check(ctx, context)) return failure;
    ThreadState& state = thread_state;
    if (state.depth) --state.depth;
    if (context) state.stack[state.depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
    Context* context = nullptr;
    if (!ctx) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = check(ctx, context)) return failure;
    ThreadState& state = thread_state;
    if (state.depth == deepest_stack) return CUDA_ERROR_OUT_OF_MEMORY;
    state.stack[state.depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* pctx) {
    ThreadState& state = thread_state;
    if (!state.depth) return CUDA_ERROR_INVALID_CONTEXT;
    const Context* context = state.stack[--state.depth];
    if (pctx) *pctx = from_handle<CUcontext>(context->handle);
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
    if (!ctx) return cuCtxGetDevice(device);
    Context* context = nullptr;
    if (const CUresult failure = check(ctx, context)) return failure;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned* version) {
    Context* context = current_context();
    if (ctx) {
        if (const CUresult failure = check(ctx, context)) return failure;
    }
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    *version = 3020;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned* flags) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned flags) {
    Context* context = current_context();
    if (flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) return CUDA_ERROR_INVALID_VALUE;
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    context->flags = flags;
    return CUDA_SUCCESS;
}

// Contexts are no longer counted by these: cuCtxDestroy ends them.
CUresult cuCtxAttach(CUcontext* pctx, unsigned flags) {
    if (!pctx || flags) return CUDA_ERROR_INVALID_VALUE;
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    *pctx = from_handle<CUcontext>(context->handle);
    return CUDA_SUCCESS;
}
CUresult cuCtxDetach(CUcontext ctx) {
    Context* context = nullptr;
    const CUresult failure = check(ctx, context);
    return failure || context ? failure : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long* id) {
    Context* context = current_context();
    if (ctx) {
        if (const CUresult failure = check(ctx, context)) return failure;
    }
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    *id = context->id;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext* pctx, unsigned flags, CUdevice dev) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) return CUDA_ERROR_INVALID_VALUE;
    ThreadState& state = thread_state;
    if (state.depth == deepest_stack) return CUDA_ERROR_OUT_OF_MEMORY;
    Context* context = make_context(0, dev, false, flags);
    Call call(Op::create_context);
    call.go_to(*context->server);
    call.create(Kind::context, pctx, context);
    context->handle = to_handle(*pctx);
    call.value<uint32_t>(flags);
    call.device(dev);
    if (const CUresult failure = call.post_anywhere()) return failure;
    state.stack[state.depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams, unsigned flags,
                        CUdevice dev) {
    if (paramsArray || numParams) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;  // needs MPS on the server
    return shim::cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned flags, CUdevice dev) {
    if (ctxCreateParams && (ctxCreateParams->numExecAffinityParams || ctxCreateParams->cigParams)) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return shim::cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx) {
    Context* context = nullptr;
    if (const CUresult failure = check(ctx, context)) return failure;
    if (!context || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    host_memory().forget_context(context);  // while work that uses it can still be waited for
    Call call(Op::destroy_context);
    call.handle(Kind::context, ctx);
    const CUresult result = call.post_anywhere();
    context->destroyed = true;
    drop_context_local_storage(context);
    ThreadState& state = thread_state;
    if (current_context() == context) --state.depth;
    forget_arrays(context);
    device_memory().forget_context(context);
    forget_peers(context);
    return result;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* pctx, CUdevice dev) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    Context* context = primaries()[static_cast<size_t>(dev)];
    const std::lock_guard lock(primary_life());
    ++context->retained;
    context->active = true;
    *pctx = from_handle<CUcontext>(context->handle);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    Context* context = primaries()[static_cast<size_t>(dev)];
    const std::lock_guard lock(primary_life());
    if (context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    return --context->retained == 0 ? end_primary(context) : CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard lock(primary_life());
    return end_primary(primaries()[static_cast<size_t>(dev)]);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned* flags, int* active) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const Context* context = primaries()[static_cast<size_t>(dev)];
    if (flags) *flags = context->flags;
    if (active) *active = context->active;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned flags) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) return CUDA_ERROR_INVALID_VALUE;
    primaries()[static_cast<size_t>(dev)]->flags = flags;
    Call call(Op::set_primary_flags);
    call.device(dev);
    call.value<uint32_t>(flags);
    return call.post_anywhere();
}

CUresult cuCtxSynchronize() {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = forbid_during_capture()) return failure;
    if (const CUresult failure = prepare_device_work(current_server())) return failure;
    Call call(Op::wait_context);
    call.ask();
    return call.result();
}

CUresult cuCtxSynchronize_v2(CUcontext ctx) {
    if (!ctx) return cuCtxSynchronize();
    if (const CUresult failure = shim::cuCtxPushCurrent_v2(ctx)) return failure;
    const CUresult result = cuCtxSynchronize();
    CUcontext same = nullptr;
    shim::cuCtxPopCurrent_v2(&same);
    return result;
}

}  // namespace shim
}  // namespace gpuferry
