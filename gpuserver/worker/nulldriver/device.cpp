// The null driver's one device. Every call returns at once; device memory is host memory, so that copies arrive, unless
// GPUFERRY_NULL_COPIES=0 makes them free as well (a copy engine that costs the processor nothing).
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace {

constexpr size_t granularity = 2u << 20;
constexpr size_t device_bytes = size_t{16} << 30;

bool copies_happen() {
    static const bool happen = [] {
        const char* value = std::getenv("GPUFERRY_NULL_COPIES");
        return !value || std::strcmp(value, "0") != 0;
    }();
    return happen;
}

// Sizes of the physical allocations, by handle; total for cuMemGetInfo.
std::mutex memory_lock;
std::unordered_map<CUmemGenericAllocationHandle, size_t>& allocations() {
    static auto* all = new std::unordered_map<CUmemGenericAllocationHandle, size_t>;
    return *all;
}
size_t allocated = 0;

CUresult copy(CUdeviceptr destination, CUdeviceptr source, size_t size) {
    if (copies_happen()) std::memmove(reinterpret_cast<void*>(destination), reinterpret_cast<void*>(source), size);
    return CUDA_SUCCESS;
}

template <class T>
CUresult fill(CUdeviceptr destination, T value, size_t count) {
    auto* place = reinterpret_cast<T*>(destination);
    for (size_t i = 0; copies_happen() && i < count; ++i) place[i] = value;
    return CUDA_SUCCESS;
}

}  // namespace

uint64_t null_driver_handle() {
    static std::atomic<uint64_t> next = 0x1000;
    return next += 16;
}

#pragma GCC visibility push(default)
extern "C" {

CUresult cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice) {
    std::strncpy(name, "gpuferry null device", static_cast<size_t>(size));
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice) {
    for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<char>(i + 1);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    return cuDeviceGetUuid_v2(uuid, device);
}
CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
    *bytes = device_bytes;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char* text, int size, CUdevice) {
    std::strncpy(text, "0000:00:00.0", static_cast<size_t>(size));
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
            return *value = 1024, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
            return *value = 64, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
            return *value = 0x7fffffff, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
            return *value = 65535, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
            return *value = 49152, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
            return *value = 32, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
            return *value = 16, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
            return *value = 2048, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            return *value = 12, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
            return *value = 9, CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
            return *value = 1, CUDA_SUCCESS;
        default:
            return *value = 0, CUDA_SUCCESS;
    }
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    static const auto only = reinterpret_cast<CUcontext>(null_driver_handle());
    *context = only;
    return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult, const char** text) {
    return *text = nullptr, CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    const std::lock_guard held(memory_lock);
    *free = device_bytes - allocated;
    *total = device_bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemGetAllocationGranularity(size_t* size, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
    *size = granularity;
    return CUDA_SUCCESS;
}
CUresult cuMemAddressReserve(CUdeviceptr* address, size_t size, size_t, CUdeviceptr wanted, unsigned long long) {
    void* place = mmap(reinterpret_cast<void*>(wanted), size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (wanted ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (place == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = reinterpret_cast<CUdeviceptr>(place);
    return CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr address, size_t size) {
    munmap(reinterpret_cast<void*>(address), size);
    return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size, const CUmemAllocationProp*,
                     unsigned long long) {
    const std::lock_guard held(memory_lock);
    if (allocated + size > device_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    allocated += size;
    *handle = null_driver_handle();
    allocations()[*handle] = size;
    return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    const std::lock_guard held(memory_lock);
    allocated -= allocations()[handle];
    allocations().erase(handle);
    return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr address, size_t size, size_t, CUmemGenericAllocationHandle, unsigned long long) {
    mprotect(reinterpret_cast<void*>(address), size, PROT_READ | PROT_WRITE);
    return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr address, size_t size) {
    mmap(reinterpret_cast<void*>(address), size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** memory, size_t size, unsigned) {
    *memory = std::aligned_alloc(4096, (size + 4095) & ~size_t{4095});
    return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void* memory) {
    std::free(memory);
    return CUDA_SUCCESS;
}
CUresult cuMemAllocHost_v2(void** memory, size_t size) {
    return cuMemHostAlloc(memory, size, 0);
}
CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t size) {
    void* memory = nullptr;
    const CUresult result = cuMemHostAlloc(&memory, size, 0);
    *address = reinterpret_cast<CUdeviceptr>(memory);
    return result;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
    return cuMemFreeHost(reinterpret_cast<void*>(address));
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t size) {
    return copy(to, reinterpret_cast<CUdeviceptr>(from), size);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t size) {
    return copy(reinterpret_cast<CUdeviceptr>(to), from, size);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, CUstream) {
    return copy(to, reinterpret_cast<CUdeviceptr>(from), size);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, CUstream) {
    return copy(reinterpret_cast<CUdeviceptr>(to), from, size);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
    return copy(to, from, size);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
    return copy(to, from, size);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream) {
    return fill(to, value, count);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream) {
    return fill(to, value, count);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream) {
    return fill(to, value, count);
}
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    return fill(to, value, count);
}
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
    return fill(to, value, count);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
    return fill(to, value, count);
}
}
#pragma GCC visibility pop
