// Streams: life, waiting, attributes.
#include <algorithm>

#include "api/entry.h"
#include "device/capture.h"
#include "device/context.h"
#include "device/event.h"
#include "device/pool.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

constexpr int greatest_priority = -5, least_priority = 0;

void create_stream(CUstream* out, unsigned flags, int priority) {
    Context& context = Context::require_current();
    check_value(out, "phStream is NULL");
    check_value((flags & ~unsigned{CU_STREAM_NON_BLOCKING}) == 0, "unknown flags");
    auto stream = std::make_shared<Stream>(context.shared_from_this(), Stream::Type::created, flags,
                                           std::clamp(priority, greatest_priority, least_priority));
    *out = publish(stream);
    context.adopt(to_value(*out));
    context.enlist(stream);
}

// The streams whose work counts as the stream's: the legacy stream stands for all blocking ones.
std::vector<std::shared_ptr<Stream>> standing_for(const std::shared_ptr<Stream>& stream) {
    if (stream->type() != Stream::Type::legacy) return {stream};
    auto all = stream->context().streams();
    std::erase_if(all, [](const auto& other) { return !other->blocking(); });
    return all;
}

}  // namespace

extern "C" CUresult CUDAAPI cuStreamCreate(CUstream* phStream, unsigned Flags) {
    return entry(__func__, [&] { create_stream(phStream, Flags, 0); });
}

extern "C" CUresult CUDAAPI cuStreamCreateWithPriority(CUstream* phStream, unsigned flags, int priority) {
    return entry(__func__, [&] { create_stream(phStream, flags, priority); });
}

extern "C" CUresult CUDAAPI cuStreamDestroy_v2(CUstream hStream) {
    return entry(__func__, [&] {
        // Work in flight goes on; the stream's thread holds it until it is done.
        const auto stream = require<Stream>(hStream);
        if (const auto capture = stream->capture()) {
            const std::lock_guard lock(graph_mutex());
            capture->invalidated = true;
        }
        withdraw<Stream>(hStream);
        stream->context().disown(to_value(hStream));
    });
}

extern "C" CUresult CUDAAPI cuStreamSynchronize(CUstream hStream) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        const auto stream = require_stream(hStream);
        forbid_on_capturing(*stream);
        for (const auto& each : standing_for(stream)) each->drain();
        stream->context().flush_print();
        stream->context().require_unfailed();
        trim_pools(stream->context().device());
    });
}

extern "C" CUresult CUDAAPI cuStreamQuery(CUstream hStream) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        forbid_on_capturing(*stream);
        for (const auto& each : standing_for(stream)) {
            if (!each->idle()) return CUDA_ERROR_NOT_READY;
        }
        stream->context().flush_print();
        stream->context().require_unfailed();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned Flags) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        const auto event = require<Event>(hEvent);
        check_value((Flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) == 0, "unknown flags");
        if (capture_wait(stream, event, Flags & CU_EVENT_WAIT_EXTERNAL)) return;
        event->make_wait(*stream);
    });
}

extern "C" CUresult CUDAAPI cuStreamGetPriority(CUstream hStream, int* priority) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(priority, "priority is NULL");
        *priority = stream->priority();
    });
}

extern "C" CUresult CUDAAPI cuStreamGetFlags(CUstream hStream, unsigned* flags) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(flags, "flags is NULL");
        *flags = stream->flags();
    });
}

extern "C" CUresult CUDAAPI cuStreamGetId(CUstream hStream, unsigned long long* streamId) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(streamId, "streamId is NULL");
        *streamId = stream->id();
    });
}

extern "C" CUresult CUDAAPI cuStreamGetDevice(CUstream hStream, CUdevice* device) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(device, "device is NULL");
        *device = stream->context().device().ordinal();
    });
}

extern "C" CUresult CUDAAPI cuStreamGetCtx(CUstream hStream, CUcontext* pctx) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(pctx, "pctx is NULL");
        *pctx = handle_of(stream->context());
    });
}

extern "C" CUresult CUDAAPI cuStreamGetCtx_v2(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(pCtx, "pCtx is NULL");
        *pCtx = handle_of(stream->context());
        if (pGreenCtx) *pGreenCtx = nullptr;
    });
}

extern "C" CUresult CUDAAPI cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx* phCtx) {
    return entry(__func__, [&] {
        require_stream(hStream);
        check_value(phCtx, "phCtx is NULL");
        *phCtx = nullptr;
    });
}

extern "C" CUresult CUDAAPI cuStreamGetAttribute(CUstream hStream, CUstreamAttrID attr, CUstreamAttrValue* value) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(value, "value is NULL");
        *value = {};
        switch (attr) {
            case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW: {
                const std::lock_guard lock(stream->attribute_mutex);
                value->accessPolicyWindow = stream->access_policy;
                return;
            }
            case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
                value->syncPolicy = static_cast<CUsynchronizationPolicy>(stream->synchronization_policy.load());
                return;
            case CU_LAUNCH_ATTRIBUTE_PRIORITY:
                value->priority = stream->priority();
                return;
            case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
                value->memSyncDomain = static_cast<CUlaunchMemSyncDomain>(stream->mem_sync_domain.load());
                return;
            case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
                return;  // both to domain 0: there is one
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a stream");
        }
    });
}

extern "C" CUresult CUDAAPI cuStreamSetAttribute(CUstream hStream, CUstreamAttrID attr,
                                                 const CUstreamAttrValue* value) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(value, "value is NULL");
        switch (attr) {
            case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW: {
                const auto& window = value->accessPolicyWindow;
                check_value(window.num_bytes <= size_t{128} << 20 && window.hitRatio >= 0 && window.hitRatio <= 1,
                            "the access policy window is out of range");
                const std::lock_guard lock(stream->attribute_mutex);
                stream->access_policy = window;
                return;
            }
            case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
                check_value(
                    value->syncPolicy >= CU_SYNC_POLICY_AUTO && value->syncPolicy <= CU_SYNC_POLICY_BLOCKING_SYNC,
                    "unknown synchronization policy");
                stream->synchronization_policy = value->syncPolicy;
                return;
            case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
                stream->mem_sync_domain = value->memSyncDomain;
                return;
            case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
                return;  // both can only be domain 0
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a stream that can be set");
        }
    });
}

extern "C" CUresult CUDAAPI cuStreamCopyAttributes(CUstream dstStream, CUstream srcStream) {
    return entry(__func__, [&] {
        const auto to = require_stream(dstStream);
        const auto from = require_stream(srcStream);
        check_value(&to->context() == &from->context(), "the streams are of different contexts");
        to->synchronization_policy = from->synchronization_policy.load();
        to->mem_sync_domain = from->mem_sync_domain.load();
        if (to == from) return;
        const std::scoped_lock lock(to->attribute_mutex, from->attribute_mutex);
        to->access_policy = from->access_policy;
    });
}
