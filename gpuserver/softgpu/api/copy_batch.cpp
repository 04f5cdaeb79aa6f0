// Copies by the batch, and single copies with attributes. Location hints and access orders allow what is done anyway.
#include "api/entry.h"
#include "device/copy.h"
#include "device/sizes.h"

using namespace softgpu;

namespace {

constexpr auto waits = EntryNeeds::outside_callback;
constexpr auto too_large = "an extent is too large";

std::shared_ptr<Stream> require_batch_stream(CUstream handle) {
    auto stream = require_stream(handle);
    check_value(stream->type() != Stream::Type::legacy, "the legacy stream takes no batches");
    return stream;
}

void check_attributes(const CUmemcpyAttributes& attributes) {
    check_value(attributes.srcAccessOrder >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM &&
                    attributes.srcAccessOrder <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY,
                "unknown order of access");
}

void copy_batch(CUdeviceptr* to, CUdeviceptr* from, size_t* sizes, size_t count, CUmemcpyAttributes* attributes,
                size_t* first_users, size_t attribute_count, size_t* failed, CUstream handle) {
    const auto stream = require_batch_stream(handle);
    check_value(to && from && sizes && count && attributes && first_users && attribute_count <= count &&
                    attribute_count && first_users[0] == 0,
                "an argument is NULL or 0");
    for (size_t i = 0; i < attribute_count; ++i) check_attributes(attributes[i]);
    for (size_t i = 0; i < count; ++i) {
        try {
            submit_copy(stream, linear_copy(to[i], PointerRole::any, from[i], PointerRole::any, sizes[i]), false);
        } catch (const DriverError&) {
            if (failed) *failed = i;
            throw;
        }
    }
}

struct Side {
    CUmemorytype type = CU_MEMORYTYPE_UNIFIED;
    CUdeviceptr pointer = 0;
    CUarray array = nullptr;
    size_t pitch = 0, height = 0, x = 0, y = 0, z = 0;
};

size_t element_bytes(const CUDA_MEMCPY3D_BATCH_OP& operation) {
    for (const CUmemcpy3DOperand* operand : {&operation.src, &operation.dst}) {
        if (operand->type != CU_MEMCPY_OPERAND_TYPE_ARRAY) continue;
        const auto& descriptor = require<Array>(operand->op.array.array)->descriptor();
        return size_t{descriptor.NumChannels} * channel_bytes(descriptor.Format);
    }
    return 1;
}

Side side_of(const CUmemcpy3DOperand& operand, size_t element) {
    Side side;
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
        side.type = CU_MEMORYTYPE_ARRAY;
        side.array = operand.op.array.array;
        side.x = checked_product(operand.op.array.offset.x, element, too_large);
        side.y = operand.op.array.offset.y;
        side.z = operand.op.array.offset.z;
        return side;
    }
    check_value(operand.type == CU_MEMCPY_OPERAND_TYPE_POINTER, "unknown kind of operand");
    side.pointer = operand.op.ptr.ptr;
    side.pitch = checked_product(operand.op.ptr.rowLength, element, too_large);
    side.height = operand.op.ptr.layerHeight;
    return side;
}

void copy_operation(const std::shared_ptr<Stream>& stream, const CUDA_MEMCPY3D_BATCH_OP& operation) {
    check_value(operation.extent.width && operation.extent.height && operation.extent.depth, "an extent is 0");
    const size_t element = element_bytes(operation);
    const Side from = side_of(operation.src, element), to = side_of(operation.dst, element);
    CUDA_MEMCPY3D description{};
    description.srcMemoryType = from.type;
    description.srcDevice = from.pointer;
    description.srcArray = from.array;
    description.srcPitch = from.pitch;
    description.srcHeight = from.height;
    description.srcXInBytes = from.x;
    description.srcY = from.y;
    description.srcZ = from.z;
    description.dstMemoryType = to.type;
    description.dstDevice = to.pointer;
    description.dstArray = to.array;
    description.dstPitch = to.pitch;
    description.dstHeight = to.height;
    description.dstXInBytes = to.x;
    description.dstY = to.y;
    description.dstZ = to.z;
    description.WidthInBytes = checked_product(operation.extent.width, element, too_large);
    description.Height = operation.extent.height;
    description.Depth = operation.extent.depth;
    submit_copy(stream, plan_copy(description), false);
}

void copy_3d_batch(size_t count, CUDA_MEMCPY3D_BATCH_OP* operations, size_t* failed, unsigned long long flags,
                   CUstream handle) {
    const auto stream = require_batch_stream(handle);
    check_value(count && operations && flags == 0, "no operations, or flags are not 0");
    for (size_t i = 0; i < count; ++i) {
        try {
            copy_operation(stream, operations[i]);
        } catch (const DriverError&) {
            if (failed) *failed = i;
            throw;
        }
    }
}

}  // namespace

extern "C" CUresult CUDAAPI cuMemcpyBatchAsync(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                               CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs,
                                               size_t* failIdx, CUstream hStream) {
    return entry(__func__, waits,
                 [&] { copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream); });
}

extern "C" CUresult CUDAAPI cuMemcpyBatchAsync_v2(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                                  CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs,
                                                  CUstream hStream) {
    return entry(__func__, waits,
                 [&] { copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, nullptr, hStream); });
}

extern "C" CUresult CUDAAPI cuMemcpy3DBatchAsync(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, size_t* failIdx,
                                                 unsigned long long flags, CUstream hStream) {
    return entry(__func__, waits, [&] { copy_3d_batch(numOps, opList, failIdx, flags, hStream); });
}

extern "C" CUresult CUDAAPI cuMemcpy3DBatchAsync_v2(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList,
                                                    unsigned long long flags, CUstream hStream) {
    return entry(__func__, waits, [&] { copy_3d_batch(numOps, opList, nullptr, flags, hStream); });
}

extern "C" CUresult CUDAAPI cuMemcpyWithAttributesAsync(CUdeviceptr dst, CUdeviceptr src, size_t size,
                                                        CUmemcpyAttributes* attr, CUstream hStream) {
    return entry(__func__, waits, [&] {
        const auto stream = require_stream(hStream);
        check_value(attr, "attr is NULL");
        check_attributes(*attr);
        submit_copy(stream, linear_copy(dst, PointerRole::any, src, PointerRole::any, size), false);
    });
}

extern "C" CUresult CUDAAPI cuMemcpy3DWithAttributesAsync(CUDA_MEMCPY3D_BATCH_OP* op, unsigned long long flags,
                                                          CUstream hStream) {
    return entry(__func__, waits, [&] {
        const auto stream = require_stream(hStream);
        check_value(op && flags == 0, "op is NULL or flags are not 0");
        copy_operation(stream, *op);
    });
}
