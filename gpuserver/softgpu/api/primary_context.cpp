// Primary contexts: one a device, shared by everything in the process that asks for it.
#include <mutex>

#include "api/entry.h"
#include "device/context.h"

using namespace softgpu;

namespace {

// Retaining, releasing and resetting are one at a time.
std::mutex& life() {
    static auto& mutex = *new std::mutex;
    return mutex;
}

void check_flags(unsigned flags) {
    check_value((flags & ~unsigned{CU_CTX_FLAGS_MASK}) == 0, "unknown context flags");
    const unsigned schedule = flags & CU_CTX_SCHED_MASK;
    check_value((schedule & (schedule - 1)) == 0, "more than one scheduling flag");
}

}  // namespace

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* pctx, CUdevice dev) {
    return entry(__func__, [&] {
        Context& context = *require_device(dev).primary();
        check_value(pctx, "pctx is NULL");
        const std::lock_guard lock(life());
        if (!context.alive()) context.activate(context.flags);
        context.retained.fetch_add(1);
        *pctx = handle_of(context);
    });
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context& context = *require_device(dev).primary();
        const std::lock_guard lock(life());
        if (context.retained.load() == 0) return CUDA_ERROR_INVALID_CONTEXT;
        if (context.retained.fetch_sub(1) == 1) context.tear_down();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice dev) {
    return cuDevicePrimaryCtxRelease_v2(dev);
}

// Who retained the context still has to release it; whoever retains it next makes it active again.
extern "C" CUresult CUDAAPI cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context& context = *require_device(dev).primary();
        const std::lock_guard lock(life());
        context.tear_down();
    });
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxReset(CUdevice dev) {
    return cuDevicePrimaryCtxReset_v2(dev);
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice dev, unsigned* flags, int* active) {
    return entry(__func__, [&] {
        const Context& context = *require_device(dev).primary();
        if (flags) *flags = context.flags;
        if (active) *active = context.alive();
    });
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned flags) {
    return entry(__func__, [&] {
        check_flags(flags);
        require_device(dev).primary()->flags = flags;
    });
}

extern "C" CUresult CUDAAPI cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned flags) {
    return cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}
