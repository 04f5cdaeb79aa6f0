// Hints about where managed memory should be: the server's GPU reaches its twin wherever it is, so they are checked,
// remembered and told back.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "device_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct Hints {
    unsigned long long id = 0;  // of the memory: a later allocation at the same address knows nothing
    bool read_mostly = false;
    int preferred = CU_DEVICE_INVALID, prefetched = CU_DEVICE_INVALID;
    std::set<int> accessed_by;  // CU_DEVICE_CPU, which is negative, comes first
};

std::mutex lock;

CUresult check(CUdeviceptr address, size_t size, CUdeviceptr& base, Stretch& stretch) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    const bool managed = device_memory().find(address, base, stretch) && stretch.is_managed();
    return managed && size && device_memory().holds(address, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// The caller holds the lock.
Hints& hints_of(CUdeviceptr base, const Stretch& stretch) {
    static auto& all = *new std::map<CUdeviceptr, Hints>;
    Hints& hints = all[base];
    if (hints.id != stretch.id) hints = {.id = stretch.id, .accessed_by = {}};
    return hints;
}

// A location as cuMemRangeGetAttribute tells it: a device, or CU_DEVICE_CPU.
CUresult number_of(const CUmemLocation& location, int& number) {
    switch (location.type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
            number = location.id;
            return client().device(location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
        case CU_MEM_LOCATION_TYPE_HOST:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
            number = CU_DEVICE_CPU;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUmemLocation location_of(CUdevice device) {
    CUmemLocation location{};
    location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
    location.id = device == CU_DEVICE_CPU ? 0 : device;
    return location;
}

CUresult advise(CUdeviceptr address, size_t size, CUmem_advise advice, const CUmemLocation& location) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (const CUresult failure = check(address, size, base, stretch)) return failure;
    const std::lock_guard held(lock);
    Hints& hints = hints_of(base, stretch);
    int number = 0;
    switch (advice) {
        case CU_MEM_ADVISE_SET_READ_MOSTLY:
        case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
            hints.read_mostly = advice == CU_MEM_ADVISE_SET_READ_MOSTLY;
            return CUDA_SUCCESS;
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
            if (const CUresult failure = number_of(location, number)) return failure;
            hints.preferred = number;
            return CUDA_SUCCESS;
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
            hints.preferred = CU_DEVICE_INVALID;
            return CUDA_SUCCESS;
        case CU_MEM_ADVISE_SET_ACCESSED_BY:
            if (const CUresult failure = number_of(location, number)) return failure;
            hints.accessed_by.insert(number);
            return CUDA_SUCCESS;
        case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
            if (const CUresult failure = number_of(location, number)) return failure;
            hints.accessed_by.erase(number);
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult check_stream(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    return resolved > 2 && !handles_table().living(Kind::stream, resolved) ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUresult prefetch(CUdeviceptr address, size_t size, const CUmemLocation& location, CUstream stream) {
    CUdeviceptr base = 0;
    Stretch stretch;
    int number = 0;
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(stream)) return failure;
    if (const CUresult failure = check(address, size, base, stretch)) return failure;
    if (const CUresult failure = number_of(location, number)) return failure;
    const std::lock_guard held(lock);
    hints_of(base, stretch).prefetched = number;
    return CUDA_SUCCESS;
}

CUresult tell_number(void* place, size_t size, int value) {
    if (size != sizeof value) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(place, &value, sizeof value);
    return CUDA_SUCCESS;
}

CUresult tell_type(void* place, size_t size, int number) {
    return tell_number(place, size,
                       number == CU_DEVICE_INVALID ? CU_MEM_LOCATION_TYPE_INVALID : location_of(number).type);
}

CUresult tell_devices(void* place, size_t size, const std::set<int>& devices) {
    if (!size || size % sizeof(int)) return CUDA_ERROR_INVALID_VALUE;
    auto* out = static_cast<int*>(place);
    auto next = devices.begin();
    for (size_t i = 0; i < size / sizeof(int); ++i) out[i] = next == devices.end() ? CU_DEVICE_INVALID : *next++;
    return CUDA_SUCCESS;
}

CUresult tell(void* place, size_t size, CUmem_range_attribute attribute, const Hints& hints) {
    if (!place) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
            return tell_number(place, size, hints.read_mostly);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
            return tell_number(place, size, hints.preferred);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
            return tell_number(place, size, hints.prefetched);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
            return tell_type(place, size, hints.preferred);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
            return tell_type(place, size, hints.prefetched);
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
            return tell_number(place, size, hints.preferred == CU_DEVICE_CPU ? 0 : hints.preferred);
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
            return tell_number(place, size, hints.prefetched == CU_DEVICE_CPU ? 0 : hints.prefetched);
        case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
            return tell_devices(place, size, hints.accessed_by);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

}  // namespace

namespace shim {

CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
    return advise(devPtr, count, advice, location_of(device));
}
CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUmemLocation location) {
    return advise(devPtr, count, advice, location);
}
CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream) {
    return prefetch(devPtr, count, location_of(dstDevice), hStream);
}
CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location, unsigned flags,
                               CUstream hStream) {
    return flags ? CUDA_ERROR_INVALID_VALUE : prefetch(devPtr, count, location, hStream);
}

CUresult cuMemPrefetchBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count, CUmemLocation* prefetchLocs,
                                 size_t* prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
                                 CUstream hStream) {
    if (!dptrs || !sizes || !count || !prefetchLocs || !prefetchLocIdxs || !numPrefetchLocs || flags) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (prefetchLocIdxs[0] || numPrefetchLocs > count) return CUDA_ERROR_INVALID_VALUE;
    size_t location = 0;
    for (size_t i = 0; i < count; ++i) {
        while (location + 1 < numPrefetchLocs && prefetchLocIdxs[location + 1] <= i) ++location;
        if (const CUresult failure = prefetch(dptrs[i], sizes[i], prefetchLocs[location], hStream)) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemDiscardBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count, unsigned long long flags,
                                CUstream hStream) {
    if (!dptrs || !sizes || !count || flags) return CUDA_ERROR_INVALID_VALUE;
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    for (size_t i = 0; i < count; ++i) {
        CUdeviceptr base = 0;
        Stretch stretch;
        if (const CUresult failure = check(dptrs[i], sizes[i], base, stretch)) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr* dptrs, size_t* sizes, size_t count, CUmemLocation* prefetchLocs,
                                           size_t* prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
                                           CUstream hStream) {
    return shim::cuMemPrefetchBatchAsync(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, flags,
                                         hStream);
}

CUresult cuMemGetLocationInfo(CUdeviceptr ptr, size_t size, size_t summaryGranularity, size_t samplingGranularity,
                              CUmemLocation* location_out) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!location_out || !summaryGranularity || summaryGranularity > size || samplingGranularity > summaryGranularity) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult failure = check(ptr, size, base, stretch)) return failure;
    const std::lock_guard held(lock);
    const int number = hints_of(base, stretch).prefetched;
    const size_t regions = size / summaryGranularity + (size % summaryGranularity != 0);
    std::fill_n(location_out, regions, location_of(number == CU_DEVICE_INVALID ? CU_DEVICE_CPU : number));
    return CUDA_SUCCESS;
}

CUresult cuMemRangeGetAttribute(void* data, size_t dataSize, CUmem_range_attribute attribute, CUdeviceptr devPtr,
                                size_t count) {
    return shim::cuMemRangeGetAttributes(&data, &dataSize, &attribute, 1, devPtr, count);
}

CUresult cuMemRangeGetAttributes(void** data, size_t* dataSizes, CUmem_range_attribute* attributes,
                                 size_t numAttributes, CUdeviceptr devPtr, size_t count) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!data || !dataSizes || !attributes || !numAttributes) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = check(devPtr, count, base, stretch)) return failure;
    const std::lock_guard held(lock);
    const Hints& hints = hints_of(base, stretch);
    for (size_t i = 0; i < numAttributes; ++i) {
        if (const CUresult failure = tell(data[i], dataSizes[i], attributes[i], hints)) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned flags) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    if (!device_memory().find(dptr, base, stretch) || !stretch.is_managed()) return CUDA_ERROR_INVALID_VALUE;
    if (length && (base != dptr || length != stretch.size)) return CUDA_ERROR_INVALID_VALUE;
    const bool known = flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST || flags == CU_MEM_ATTACH_SINGLE;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace shim
}  // namespace gpuferry
