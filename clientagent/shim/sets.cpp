// cuMemset*: posted once the whole stretch is known to be memory that the GPU reaches.
#include "between_servers.h"
#include "host_memory.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry::shim {
namespace {

// Pinned memory under the address that the GPU knows it by: it has a twin from now on.
CUresult check_pinned(CUdeviceptr address, uint64_t bytes, CUstream stream) {
    void* memory = reinterpret_cast<void*>(address);
    CUdeviceptr known = 0;
    if (!host_memory().is_pinned(memory, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = shim::cuMemHostGetDevicePointer_v2(&known, memory, 0)) return failure;
    return known == address ? prepare_device_work(server_of_stream(stream)) : CUDA_ERROR_INVALID_VALUE;
}

CUresult check(CUdeviceptr address, uint64_t count, uint64_t size, CUstream stream = nullptr) {
    if (const CUresult failure = check_usable(current_context())) return failure;
    if (address % size) return CUDA_ERROR_INVALID_VALUE;
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (count && !device_memory().holds(address, bytes)) return check_pinned(address, bytes, stream);
    return is_host_address(address) ? prepare_device_work(server_of_stream(stream)) : CUDA_SUCCESS;
}

CUresult check_rows(CUdeviceptr address, uint64_t pitch, uint64_t width, uint64_t height, uint64_t size,
                    CUstream stream = nullptr) {
    if (width == 0 || height == 0) return check_usable(current_context());
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(width, size, &bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (height > 1 && pitch < bytes) return CUDA_ERROR_INVALID_VALUE;
    uint64_t all = 0;
    if (__builtin_mul_overflow(pitch, height - 1, &all) || __builtin_add_overflow(all, bytes, &all)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return check(address, all / size, size, stream);
}

// A set of host memory is over when it returns, unless it is an asynchronous one.
template <class Set>
CUresult set_now(CUdeviceptr address, Set set) {
    const CUresult result = do_where(address, nullptr, [&](CUstream) { return set(); });
    return result || !in_twin(reinterpret_cast<const void*>(address), 1) ? result : shim::cuStreamSynchronize(nullptr);
}

// A call that sets nothing still tells that its stream's capture has failed.
CUresult nothing(CUresult failure, CUstream stream) {
    bool capturing = false;
    return failure ? failure : ask_capturing(stream, capturing);
}

}  // namespace

CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
    const CUresult failure = check(dstDevice, N, 1);
    return failure || !N ? failure : set_now(dstDevice, [&] { return forward_cuMemsetD8_v2(dstDevice, uc, N); });
}
CUresult cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N) {
    const CUresult failure = check(dstDevice, N, 2);
    return failure || !N ? failure : set_now(dstDevice, [&] { return forward_cuMemsetD16_v2(dstDevice, us, N); });
}
CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned ui, size_t N) {
    const CUresult failure = check(dstDevice, N, 4);
    return failure || !N ? failure : set_now(dstDevice, [&] { return forward_cuMemsetD32_v2(dstDevice, ui, N); });
}
CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
    const CUresult failure = check(dstDevice, N, 1, hStream);
    return failure || !N ? nothing(failure, hStream) : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD8Async(dstDevice, uc, N, stream);
    });
}
CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
    const CUresult failure = check(dstDevice, N, 2, hStream);
    return failure || !N ? nothing(failure, hStream) : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD16Async(dstDevice, us, N, stream);
    });
}
CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned ui, size_t N, CUstream hStream) {
    const CUresult failure = check(dstDevice, N, 4, hStream);
    return failure || !N ? nothing(failure, hStream) : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD32Async(dstDevice, ui, N, stream);
    });
}
CUresult cuMemsetD2D8_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 1);
    return failure
               ? failure
               : set_now(dstDevice, [&] { return forward_cuMemsetD2D8_v2(dstDevice, dstPitch, uc, Width, Height); });
}
CUresult cuMemsetD2D16_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 2);
    return failure
               ? failure
               : set_now(dstDevice, [&] { return forward_cuMemsetD2D16_v2(dstDevice, dstPitch, us, Width, Height); });
}
CUresult cuMemsetD2D32_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned ui, size_t Width, size_t Height) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 4);
    return failure
               ? failure
               : set_now(dstDevice, [&] { return forward_cuMemsetD2D32_v2(dstDevice, dstPitch, ui, Width, Height); });
}
CUresult cuMemsetD2D8Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height,
                           CUstream hStream) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 1, hStream);
    return failure ? failure : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD2D8Async(dstDevice, dstPitch, uc, Width, Height, stream);
    });
}
CUresult cuMemsetD2D16Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height,
                            CUstream hStream) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 2, hStream);
    return failure ? failure : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD2D16Async(dstDevice, dstPitch, us, Width, Height, stream);
    });
}
CUresult cuMemsetD2D32Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned ui, size_t Width, size_t Height,
                            CUstream hStream) {
    const CUresult failure = check_rows(dstDevice, dstPitch, Width, Height, 4, hStream);
    return failure ? failure : do_where(dstDevice, hStream, [&](CUstream stream) {
        return forward_cuMemsetD2D32Async(dstDevice, dstPitch, ui, Width, Height, stream);
    });
}

}  // namespace gpuferry::shim
