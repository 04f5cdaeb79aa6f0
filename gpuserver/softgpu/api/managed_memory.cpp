// Managed memory: one allocation that host and kernels use at one address, and what programs say about its use.
//
// Nothing migrates here: advice and prefetches are remembered and told back, as programs and tests expect.
#include <algorithm>
#include <cstring>

#include "api/entry.h"
#include "device/capture.h"
#include "device/context.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

AllocationPtr require_managed(CUdeviceptr begin, size_t count) {
    check_value(count != 0, "no bytes are given");
    const auto allocation = memory_map().find(begin);
    check_value(allocation && allocation->kind == MemoryKind::managed && count <= allocation->end() - begin,
                "the range is not managed memory");
    return allocation;
}

// A location as cuMemRangeGetAttribute tells it: a device, or CU_DEVICE_CPU.
int location_number(const CUmemLocation& location) {
    switch (location.type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
            return require_device(location.id).ordinal();
        case CU_MEM_LOCATION_TYPE_HOST:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
            return CU_DEVICE_CPU;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown location");
    }
}

CUmemLocation location_of(CUdevice device) {
    CUmemLocation location{};
    location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
    location.id = device == CU_DEVICE_CPU ? 0 : device;
    return location;
}

void advise(CUdeviceptr begin, size_t count, CUmem_advise advice, const CUmemLocation& location) {
    Context::require_current();
    const auto allocation = require_managed(begin, count);
    const auto set_accessed = [&](bool accessed) {
        const int number = location_number(location);
        if (number == CU_DEVICE_CPU) {
            allocation->accessed_by_host = accessed;
        } else if (accessed) {
            allocation->accessed_by.fetch_or(uint64_t{1} << number);
        } else {
            allocation->accessed_by.fetch_and(~(uint64_t{1} << number));
        }
    };
    switch (advice) {
        case CU_MEM_ADVISE_SET_READ_MOSTLY:
            allocation->read_mostly = 1;
            return;
        case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
            allocation->read_mostly = 0;
            return;
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
            allocation->preferred_location = location_number(location);
            return;
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
            allocation->preferred_location = CU_DEVICE_INVALID;
            return;
        case CU_MEM_ADVISE_SET_ACCESSED_BY:
            return set_accessed(true);
        case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
            return set_accessed(false);
    }
    throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown advice");
}

void prefetch(CUdeviceptr begin, size_t count, const CUmemLocation& location, CUstream handle) {
    const auto stream = require_stream(handle);
    const auto allocation = require_managed(begin, count);
    const int number = location_number(location);
    if (capture_work(*stream, [] { return EmptyWork{}; })) {
        allocation->last_prefetch = number;
        return;
    }
    stream->enqueue({[allocation, number] { allocation->last_prefetch = number; }});
}

void tell(void* data, size_t size, CUmem_range_attribute attribute, const Allocation& allocation) {
    const auto tell_int = [&](int value) {
        check_value(size == sizeof value, "dataSize is not 4");
        std::memcpy(data, &value, sizeof value);
    };
    const auto tell_location = [&](int number, bool type) {
        if (!type) return tell_int(number == CU_DEVICE_CPU ? 0 : number);
        tell_int(number == CU_DEVICE_INVALID ? CU_MEM_LOCATION_TYPE_INVALID : location_of(number).type);
    };
    switch (attribute) {
        case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
            return tell_int(allocation.read_mostly);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
            return tell_int(allocation.preferred_location);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
            return tell_int(allocation.last_prefetch);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
            return tell_location(allocation.preferred_location, true);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
            return tell_location(allocation.preferred_location, false);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
            return tell_location(allocation.last_prefetch, true);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
            return tell_location(allocation.last_prefetch, false);
        case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY: {
            check_value(size != 0 && size % sizeof(int) == 0, "dataSize is no multiple of 4");
            auto* out = static_cast<int*>(data);
            size_t room = size / sizeof(int);
            const auto put = [&](int number) {
                if (room) *out++ = number, --room;
            };
            if (allocation.accessed_by_host) put(CU_DEVICE_CPU);
            for (int i = 0; i < device_count(); ++i) {
                if (allocation.accessed_by.load() >> i & 1) put(i);
            }
            while (room) put(CU_DEVICE_INVALID);
            return;
        }
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown attribute of a range");
    }
}

}  // namespace

extern "C" CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned flags) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(dptr && bytesize, "dptr is NULL or no bytes are wanted");
        check_value(flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST, "unknown flags");
        forbid_during_capture();
        const auto allocation = context.device().allocate(&context, bytesize, MemoryKind::managed);
        allocation->flags = flags;
        *dptr = allocation->begin;
    });
}

extern "C" CUresult CUDAAPI cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned flags) {
    return entry(__func__, [&] {
        require_stream(hStream);
        const auto allocation = memory_map().find(dptr);
        check_value(allocation && allocation->kind == MemoryKind::managed, "the memory is not managed");
        check_value(length == 0 || (allocation->begin == dptr && length == allocation->size),
                    "length is neither 0 nor the allocation's");
        check_value(flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST || flags == CU_MEM_ATTACH_SINGLE,
                    "unknown flags");
    });
}

extern "C" CUresult CUDAAPI cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
    return entry(__func__, [&] { advise(devPtr, count, advice, location_of(device)); });
}

extern "C" CUresult CUDAAPI cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
                                           CUmemLocation location) {
    return entry(__func__, [&] { advise(devPtr, count, advice, location); });
}

extern "C" CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream) {
    return entry(__func__, [&] { prefetch(devPtr, count, location_of(dstDevice), hStream); });
}

extern "C" CUresult CUDAAPI cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                                                  unsigned flags, CUstream hStream) {
    return entry(__func__, [&] {
        check_value(flags == 0, "flags are not 0");
        prefetch(devPtr, count, location, hStream);
    });
}

extern "C" CUresult CUDAAPI cuMemPrefetchBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count,
                                                    CUmemLocation* prefetchLocs, size_t* prefetchLocIdxs,
                                                    size_t numPrefetchLocs, unsigned long long flags,
                                                    CUstream hStream) {
    return entry(__func__, [&] {
        check_value(dptrs && sizes && count && prefetchLocs && prefetchLocIdxs && numPrefetchLocs && flags == 0,
                    "an argument is NULL or 0");
        check_value(prefetchLocIdxs[0] == 0 && numPrefetchLocs <= count, "locations do not begin at the first range");
        size_t location = 0;
        for (size_t i = 0; i < count; ++i) {
            while (location + 1 < numPrefetchLocs && prefetchLocIdxs[location + 1] <= i) ++location;
            prefetch(dptrs[i], sizes[i], prefetchLocs[location], hStream);
        }
    });
}

extern "C" CUresult CUDAAPI cuMemDiscardBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count,
                                                   unsigned long long flags, CUstream hStream) {
    return entry(__func__, [&] {
        check_value(dptrs && sizes && count && flags == 0, "an argument is NULL or 0");
        const auto stream = require_stream(hStream);
        for (size_t i = 0; i < count; ++i) require_managed(dptrs[i], sizes[i]);
        // What is discarded may be read as anything, so also as what it was.
        capture_work(*stream, [] { return EmptyWork{}; });
    });
}

extern "C" CUresult CUDAAPI cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count,
                                                              CUmemLocation* prefetchLocs, size_t* prefetchLocIdxs,
                                                              size_t numPrefetchLocs, unsigned long long flags,
                                                              CUstream hStream) {
    return cuMemPrefetchBatchAsync(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, flags, hStream);
}

extern "C" CUresult CUDAAPI cuMemGetLocationInfo(CUdeviceptr ptr, size_t size, size_t summaryGranularity,
                                                 size_t samplingGranularity, CUmemLocation* location_out) {
    return entry(__func__, [&] {
        check_value(location_out && summaryGranularity && summaryGranularity <= size &&
                        samplingGranularity <= summaryGranularity,
                    "location_out is NULL, or a granularity is larger than what it divides");
        Context::require_current();
        const int number = require_managed(ptr, size)->last_prefetch;
        const size_t regions = size / summaryGranularity + (size % summaryGranularity != 0);
        std::fill_n(location_out, regions, location_of(number == CU_DEVICE_INVALID ? CU_DEVICE_CPU : number));
    });
}

extern "C" CUresult CUDAAPI cuMemRangeGetAttribute(void* data, size_t dataSize, CUmem_range_attribute attribute,
                                                   CUdeviceptr devPtr, size_t count) {
    return entry(__func__, [&] {
        Context::require_current();
        check_value(data, "data is NULL");
        tell(data, dataSize, attribute, *require_managed(devPtr, count));
    });
}

extern "C" CUresult CUDAAPI cuMemRangeGetAttributes(void** data, size_t* dataSizes, CUmem_range_attribute* attributes,
                                                    size_t numAttributes, CUdeviceptr devPtr, size_t count) {
    return entry(__func__, [&] {
        Context::require_current();
        check_value(data && dataSizes && attributes && numAttributes, "an argument is NULL or 0");
        const auto allocation = require_managed(devPtr, count);
        for (size_t i = 0; i < numAttributes; ++i) {
            check_value(data[i], "data is NULL");
            tell(data[i], dataSizes[i], attributes[i], *allocation);
        }
    });
}
