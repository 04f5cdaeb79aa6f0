// Several copies in one call, and copies with attributes. Attributes are hints about when a source is read: a pageable
// source is taken at the call, which satisfies every one of them.
#include "call.h"
#include "shapes.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

// These calls work in streams of the program's own, not in the default one.
CUresult check_stream(CUstream stream) {
    return stream && stream != CU_STREAM_LEGACY ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult check_attributes(const CUmemcpyAttributes& attributes) {
    const bool known = attributes.srcAccessOrder >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM &&
                       attributes.srcAccessOrder <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult copy_all(const CUdeviceptr* to, const CUdeviceptr* from, const size_t* sizes, size_t count,
                  const CUmemcpyAttributes* attributes, const size_t* first_users, size_t attribute_count,
                  size_t* failed, CUstream stream) {
    if (const CUresult failure = check_stream(stream)) return failure;
    if (!to || !from || !sizes || !count || !attributes || !first_users) return CUDA_ERROR_INVALID_VALUE;
    if (!attribute_count || attribute_count > count || first_users[0]) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < attribute_count; ++i) {
        if (const CUresult failure = check_attributes(attributes[i])) return failure;
    }
    for (size_t i = 0; i < count; ++i) {
        const CUresult failure = shim::cuMemcpyAsync(to[i], from[i], sizes[i], stream);
        if (!failure) continue;
        if (failed) *failed = i;
        return failure;
    }
    return CUDA_SUCCESS;
}

struct Side {
    CUmemorytype type = CU_MEMORYTYPE_UNIFIED;
    CUdeviceptr address = 0;
    CUarray array = nullptr;
    size_t pitch = 0, height = 0, x = 0, y = 0, z = 0;
};

size_t channel_bytes(CUarray_format format) {
    switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT8:
            return 1;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_HALF:
            return 2;
        default:
            return 4;
    }
}

CUresult find_element_bytes(const CUDA_MEMCPY3D_BATCH_OP& operation, size_t& bytes) {
    bytes = 1;
    for (const CUmemcpy3DOperand* operand : {&operation.src, &operation.dst}) {
        if (operand->type != CU_MEMCPY_OPERAND_TYPE_ARRAY) continue;
        CUDA_ARRAY3D_DESCRIPTOR descriptor{};
        const CUresult failure = shim::cuArray3DGetDescriptor_v2(&descriptor, operand->op.array.array);
        if (failure) return failure;
        bytes = descriptor.NumChannels * channel_bytes(descriptor.Format);
        return CUDA_SUCCESS;
    }
    return CUDA_SUCCESS;
}

CUresult side_of(const CUmemcpy3DOperand& operand, size_t element, Side& side) {
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
        const CUoffset3D& offset = operand.op.array.offset;
        side = {CU_MEMORYTYPE_ARRAY, 0, operand.op.array.array, 0, 0, offset.x * element, offset.y, offset.z};
        return CUDA_SUCCESS;
    }
    if (operand.type != CU_MEMCPY_OPERAND_TYPE_POINTER) return CUDA_ERROR_INVALID_VALUE;
    side.address = operand.op.ptr.ptr;
    side.pitch = operand.op.ptr.rowLength * element;
    side.height = operand.op.ptr.layerHeight;
    return CUDA_SUCCESS;
}

CUresult copy_operation(const CUDA_MEMCPY3D_BATCH_OP& operation, CUstream stream) {
    const CUextent3D& extent = operation.extent;
    if (!extent.width || !extent.height || !extent.depth) return CUDA_ERROR_INVALID_VALUE;
    size_t element = 1;
    if (const CUresult failure = find_element_bytes(operation, element)) return failure;
    Side from, to;
    if (const CUresult failure = side_of(operation.src, element, from)) return failure;
    if (const CUresult failure = side_of(operation.dst, element, to)) return failure;
    CUDA_MEMCPY3D copy{};
    copy.srcMemoryType = from.type, copy.srcDevice = from.address, copy.srcArray = from.array;
    copy.srcPitch = from.pitch, copy.srcHeight = from.height;
    copy.srcXInBytes = from.x, copy.srcY = from.y, copy.srcZ = from.z;
    copy.dstMemoryType = to.type, copy.dstDevice = to.address, copy.dstArray = to.array;
    copy.dstPitch = to.pitch, copy.dstHeight = to.height;
    copy.dstXInBytes = to.x, copy.dstY = to.y, copy.dstZ = to.z;
    copy.WidthInBytes = extent.width * element, copy.Height = extent.height, copy.Depth = extent.depth;
    return shim::cuMemcpy3DAsync_v2(&copy, stream);
}

CUresult copy_all_shapes(size_t count, const CUDA_MEMCPY3D_BATCH_OP* operations, size_t* failed,
                         unsigned long long flags, CUstream stream) {
    if (const CUresult failure = check_stream(stream)) return failure;
    if (!count || !operations || flags) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i) {
        const CUresult failure = copy_operation(operations[i], stream);
        if (!failure) continue;
        if (failed) *failed = i;
        return failure;
    }
    return CUDA_SUCCESS;
}

// All GPUs of a lease have addresses of one space: the contexts say nothing that the addresses do not.
CUDA_MEMCPY3D plain(const CUDA_MEMCPY3D_PEER& peer) {
    CUDA_MEMCPY3D copy{};
    copy.srcXInBytes = peer.srcXInBytes, copy.srcY = peer.srcY, copy.srcZ = peer.srcZ, copy.srcLOD = peer.srcLOD;
    copy.srcMemoryType = peer.srcMemoryType, copy.srcHost = peer.srcHost, copy.srcDevice = peer.srcDevice;
    copy.srcArray = peer.srcArray, copy.srcPitch = peer.srcPitch, copy.srcHeight = peer.srcHeight;
    copy.dstXInBytes = peer.dstXInBytes, copy.dstY = peer.dstY, copy.dstZ = peer.dstZ, copy.dstLOD = peer.dstLOD;
    copy.dstMemoryType = peer.dstMemoryType, copy.dstHost = peer.dstHost, copy.dstDevice = peer.dstDevice;
    copy.dstArray = peer.dstArray, copy.dstPitch = peer.dstPitch, copy.dstHeight = peer.dstHeight;
    copy.WidthInBytes = peer.WidthInBytes, copy.Height = peer.Height, copy.Depth = peer.Depth;
    return copy;
}

}  // namespace

CUresult cuMemcpyBatchAsync(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                            CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, size_t* failIdx,
                            CUstream hStream) {
    return copy_all(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream);
}
CUresult cuMemcpyBatchAsync_v2(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                               CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, CUstream hStream) {
    return copy_all(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, nullptr, hStream);
}
CUresult cuMemcpy3DBatchAsync(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, size_t* failIdx, unsigned long long flags,
                              CUstream hStream) {
    return copy_all_shapes(numOps, opList, failIdx, flags, hStream);
}
CUresult cuMemcpy3DBatchAsync_v2(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, unsigned long long flags,
                                 CUstream hStream) {
    return copy_all_shapes(numOps, opList, nullptr, flags, hStream);
}
CUresult cuMemcpyWithAttributesAsync(CUdeviceptr dst, CUdeviceptr src, size_t size, CUmemcpyAttributes* attr,
                                     CUstream hStream) {
    if (!attr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = check_attributes(*attr)) return failure;
    return shim::cuMemcpyAsync(dst, src, size, hStream);
}
CUresult cuMemcpy3DWithAttributesAsync(CUDA_MEMCPY3D_BATCH_OP* op, unsigned long long flags, CUstream hStream) {
    return op && !flags ? copy_operation(*op, hStream) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* pCopy) {
    if (!pCopy) return CUDA_ERROR_INVALID_VALUE;
    const CUDA_MEMCPY3D copy = plain(*pCopy);
    return shim::cuMemcpy3D_v2(&copy);
}
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
    if (!pCopy) return CUDA_ERROR_INVALID_VALUE;
    const CUDA_MEMCPY3D copy = plain(*pCopy);
    return shim::cuMemcpy3DAsync_v2(&copy, hStream);
}

}  // namespace gpuferry::shim
