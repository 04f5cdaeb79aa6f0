// Copies of one, two and three dimensions.
#include "device/copy.h"

#include "api/entry.h"
#include "device/context.h"
#include "device/copy_order.h"
#include "device/sizes.h"

using namespace softgpu;

namespace {

uint64_t address_of(const void* pointer) {
    return reinterpret_cast<uint64_t>(pointer);
}

void copy_linear(uint64_t to, PointerRole to_role, uint64_t from, PointerRole from_role, size_t bytes, CUstream handle,
                 bool wait) {
    const auto stream = require_stream(handle);
    submit_copy(stream, linear_copy(to, to_role, from, from_role, bytes), wait);
}

template <class Description>
void copy_described(const Description* description, CUstream handle, bool wait) {
    const auto stream = require_stream(handle);
    check_value(description, "pCopy is NULL");
    submit_copy(stream, plan_copy(*description), wait);
}

void copy_array(uint64_t address, PointerRole role, CUarray array, size_t offset, size_t bytes, bool to_array,
                CUstream handle, bool wait) {
    const auto stream = require_stream(handle);
    submit_copy(stream, array_copy(address, role, require<Array>(array), offset, bytes, to_array), wait);
}

constexpr auto waits = EntryNeeds::outside_callback;

}  // namespace

extern "C" CUresult CUDAAPI cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
    return entry(__func__, waits,
                 [&] { copy_linear(dst, PointerRole::any, src, PointerRole::any, ByteCount, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
    return entry(__func__, waits,
                 [&] { copy_linear(dst, PointerRole::any, src, PointerRole::any, ByteCount, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_linear(dstDevice, PointerRole::device, address_of(srcHost), PointerRole::host, ByteCount, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount,
                                                 CUstream hStream) {
    return entry(__func__, waits, [&] {
        copy_linear(dstDevice, PointerRole::device, address_of(srcHost), PointerRole::host, ByteCount, hStream, false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyDtoH_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_linear(address_of(dstHost), PointerRole::host, srcDevice, PointerRole::device, ByteCount, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyDtoHAsync_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                                 CUstream hStream) {
    return entry(__func__, waits, [&] {
        copy_linear(address_of(dstHost), PointerRole::host, srcDevice, PointerRole::device, ByteCount, hStream, false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_linear(dstDevice, PointerRole::device, srcDevice, PointerRole::device, ByteCount, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                                                 CUstream hStream) {
    return entry(__func__, waits, [&] {
        copy_linear(dstDevice, PointerRole::device, srcDevice, PointerRole::device, ByteCount, hStream, false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                                         CUcontext srcContext, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        // Serialised with what is pending in either context, not only with the current one's stream.
        for (const CUcontext handle : {srcContext, dstContext}) require<Context>(handle)->synchronize();
        copy_linear(dstDevice, PointerRole::device, srcDevice, PointerRole::device, ByteCount, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                                              CUcontext srcContext, size_t ByteCount, CUstream hStream) {
    return entry(__func__, waits, [&] {
        Contexts with{require<Context>(srcContext), require<Context>(dstContext)};
        const auto stream = require_stream(hStream);
        if (stream->type() != Stream::Type::legacy) with.clear();
        submit_copy(stream, linear_copy(dstDevice, PointerRole::device, srcDevice, PointerRole::device, ByteCount),
                    false, std::move(with));
    });
}

extern "C" CUresult CUDAAPI cuMemcpy2D_v2(const CUDA_MEMCPY2D* pCopy) {
    return entry(__func__, waits, [&] { copy_described(pCopy, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* pCopy) {
    return entry(__func__, waits, [&] { copy_described(pCopy, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
    return entry(__func__, waits, [&] { copy_described(pCopy, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemcpy3D_v2(const CUDA_MEMCPY3D* pCopy) {
    return entry(__func__, waits, [&] { copy_described(pCopy, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
    return entry(__func__, waits, [&] { copy_described(pCopy, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* pCopy) {
    return entry(__func__, waits, [&] { copy_described(pCopy, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
    return entry(__func__, waits, [&] { copy_described(pCopy, hStream, false); });
}

// --- arrays of one dimension

extern "C" CUresult CUDAAPI cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void* srcHost, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_array(address_of(srcHost), PointerRole::host, dstArray, dstOffset, ByteCount, true, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void* srcHost,
                                                 size_t ByteCount, CUstream hStream) {
    return entry(__func__, waits, [&] {
        copy_array(address_of(srcHost), PointerRole::host, dstArray, dstOffset, ByteCount, true, hStream, false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyAtoH_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_array(address_of(dstHost), PointerRole::host, srcArray, srcOffset, ByteCount, false, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyAtoHAsync_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
                                                 CUstream hStream) {
    return entry(__func__, waits, [&] {
        copy_array(address_of(dstHost), PointerRole::host, srcArray, srcOffset, ByteCount, false, hStream, false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                                            size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_array(srcDevice, PointerRole::device, dstArray, dstOffset, ByteCount, true, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                                            size_t ByteCount) {
    return entry(__func__, waits, [&] {
        copy_array(dstDevice, PointerRole::device, srcArray, srcOffset, ByteCount, false, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
                                            size_t ByteCount) {
    return entry(__func__, waits, [&] {
        const auto stream = require_stream(nullptr);
        const auto from = require<Array>(srcArray);
        check_value(from->rows() == 1 && from->slices() == 1 && fits(srcOffset, ByteCount, from->row_bytes()),
                    "the copy runs over the end of the array");
        submit_copy(stream,
                    array_copy(from->base() + srcOffset, PointerRole::device, require<Array>(dstArray), dstOffset,
                               ByteCount, true),
                    true);
    });
}
