// Contexts and the calling thread's stack of them.
#include "device/context.h"
#include "api/entry.h"
#include "device/capture.h"
#include "device/event.h"
#include "device/pool.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

constexpr unsigned known_flags = CU_CTX_FLAGS_MASK;

void check_flags(unsigned flags) {
    check_value((flags & ~known_flags) == 0, "unknown context flags");
    const unsigned schedule = flags & CU_CTX_SCHED_MASK;
    check_value((schedule & (schedule - 1)) == 0, "more than one scheduling flag");
}

void create_context(CUcontext* out, unsigned flags, CUdevice dev) {
    check_value(out, "pctx is NULL");
    check_flags(flags);
    Device& device = require_device(dev);
    auto context = std::make_shared<Context>(device, false);
    *out = publish(context);
    context->activate(flags);
    context->api_version = 3020;
    Context::push(std::move(context));
}

// NULL means the current one.
std::shared_ptr<Context> context_or_current(CUcontext handle) {
    if (handle) return require<Context>(handle);
    Context& current = Context::require_current_even_failed();
    return current.shared_from_this();
}

}  // namespace

extern "C" CUresult CUDAAPI cuCtxCreate_v2(CUcontext* pctx, unsigned flags, CUdevice dev) {
    return entry(__func__, [&] { create_context(pctx, flags, dev); });
}

extern "C" CUresult CUDAAPI cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams,
                                           unsigned flags, CUdevice dev) {
    return entry(__func__, [&] {
        if (paramsArray || numParams) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
        create_context(pctx, flags, dev);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned flags,
                                           CUdevice dev) {
    return entry(__func__, [&] {
        if (ctxCreateParams && (ctxCreateParams->execAffinityParams || ctxCreateParams->numExecAffinityParams)) {
            return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
        }
        if (ctxCreateParams && ctxCreateParams->cigParams) return CUDA_ERROR_NOT_SUPPORTED;
        create_context(pctx, flags, dev);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxDestroy_v2(CUcontext ctx) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        auto context = require<Context>(ctx);
        if (context->is_primary()) {
            throw DriverError(CUDA_ERROR_INVALID_CONTEXT, "a primary context is released, not destroyed");
        }
        context->tear_down();
        withdraw<Context>(ctx);
        if (Context::current() == context) Context::pop();
    });
}

extern "C" CUresult CUDAAPI cuCtxAttach(CUcontext* pctx, unsigned flags) {
    return entry(__func__, [&] {
        check_value(pctx && flags == 0, "pctx is NULL or flags are not 0");
        *pctx = handle_of(Context::require_current_even_failed());
    });
}

extern "C" CUresult CUDAAPI cuCtxDetach(CUcontext ctx) {
    return entry(__func__, [&] { require<Context>(ctx); });
}

extern "C" CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext ctx) {
    return entry(__func__, [&] {
        check_value(ctx, "ctx is NULL");
        Context::push(require<Context>(ctx));
    });
}

extern "C" CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext* pctx) {
    return entry(__func__, [&] {
        const auto popped = Context::pop();
        if (pctx) *pctx = handle_of(*popped);
    });
}

extern "C" CUresult CUDAAPI cuCtxSetCurrent(CUcontext ctx) {
    return entry(__func__, [&] { Context::set_current(ctx ? require<Context>(ctx) : nullptr); });
}

extern "C" CUresult CUDAAPI cuCtxGetCurrent(CUcontext* pctx) {
    return entry(__func__, [&] {
        check_value(pctx, "pctx is NULL");
        const auto context = Context::current();
        *pctx = context ? handle_of(*context) : nullptr;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
    return entry(__func__, [&] {
        check_value(device, "device is NULL");
        const auto context = Context::current();
        if (!context) return CUDA_ERROR_INVALID_CONTEXT;
        *device = context->device().ordinal();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
    return entry(__func__, [&] {
        check_value(device, "device is NULL");
        const auto context = ctx ? require<Context>(ctx) : Context::current();
        if (!context) return CUDA_ERROR_INVALID_CONTEXT;
        *device = context->device().ordinal();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetFlags(unsigned* flags) {
    return entry(__func__, [&] {
        check_value(flags, "flags is NULL");
        *flags = Context::require_current_even_failed().flags;
    });
}

extern "C" CUresult CUDAAPI cuCtxSetFlags(unsigned flags) {
    return entry(__func__, [&] {
        check_flags(flags);
        Context::require_current_even_failed().flags = flags;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetId(CUcontext ctx, unsigned long long* ctxId) {
    return entry(__func__, [&] {
        const auto context = context_or_current(ctx);
        if (!context->alive()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        check_value(ctxId, "ctxId is NULL");
        *ctxId = context->id();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetApiVersion(CUcontext ctx, unsigned* version) {
    return entry(__func__, [&] {
        const auto context = context_or_current(ctx);
        check_value(version, "version is NULL");
        *version = context->api_version;
    });
}

extern "C" CUresult CUDAAPI cuCtxSynchronize(void) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context& context = Context::require_current();
        forbid_during_capture();
        context.synchronize();
        trim_pools(context.device());
    });
}

extern "C" CUresult CUDAAPI cuCtxSynchronize_v2(CUcontext ctx) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        const auto context = context_or_current(ctx);
        if (!context->alive()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        forbid_during_capture();
        context->synchronize();
        trim_pools(context->device());
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetCacheConfig(CUfunc_cache* pconfig) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pconfig, "pconfig is NULL");
        *pconfig = static_cast<CUfunc_cache>(context.cache_config.load());
    });
}

extern "C" CUresult CUDAAPI cuCtxSetCacheConfig(CUfunc_cache config) {
    return entry(__func__, [&] {
        check_value(config >= CU_FUNC_CACHE_PREFER_NONE && config <= CU_FUNC_CACHE_PREFER_EQUAL, "unknown preference");
        Context::require_current().cache_config = config;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetSharedMemConfig(CUsharedconfig* pConfig) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pConfig, "pConfig is NULL");
        *pConfig = static_cast<CUsharedconfig>(context.shared_config.load());
    });
}

extern "C" CUresult CUDAAPI cuCtxSetSharedMemConfig(CUsharedconfig config) {
    return entry(__func__, [&] {
        check_value(
            config >= CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE && config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE,
            "unknown bank size");
        Context::require_current().shared_config = config;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetLimit(size_t* pvalue, CUlimit limit) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pvalue, "pvalue is NULL");
        if (limit >= CU_LIMIT_MAX || limit < 0) return CUDA_ERROR_UNSUPPORTED_LIMIT;
        *pvalue = context.limits[limit];
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxSetLimit(CUlimit limit, size_t value) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        switch (limit) {
            case CU_LIMIT_STACK_SIZE:
                check_value(value <= size_t{512} << 10, "a thread's stack is at most 512 KiB");
                break;
            case CU_LIMIT_PRINTF_FIFO_SIZE:
            case CU_LIMIT_MALLOC_HEAP_SIZE:
                check_value(value <= context.device().memory().capacity(), "more than the device has");
                break;
            case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
                check_value(value <= 128, "more than 128 bytes");
                break;
            case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
            case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
            case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
                break;
            default:
                return CUDA_ERROR_UNSUPPORTED_LIMIT;
        }
        context.limits[limit] = value;
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxResetPersistingL2Cache(void) {
    return entry(__func__, [&] { Context::require_current(); });
}

extern "C" CUresult CUDAAPI cuCtxGetStreamPriorityRange(int* leastPriority, int* greatestPriority) {
    return entry(__func__, [&] {
        Context::require_current();
        if (leastPriority) *leastPriority = 0;
        if (greatestPriority) *greatestPriority = -5;
    });
}

extern "C" CUresult CUDAAPI cuCtxGetExecAffinity(CUexecAffinityParam*, CUexecAffinityType) {
    return entry(__func__, [&] {
        Context::require_current();
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    });
}
