// cuOccupancy*: the load reply says how many blocks of each size fit by registers and threads; shared memory is
// reckoned here.
#include <algorithm>

#include "launch_parameters.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

constexpr int warp = 32;

// Bytes of shared memory that a block takes: allocated in units of 128 bytes from compute capability 8.0 on.
int64_t shared_of_block(const Device& device, const Function& function, size_t dynamic) {
    const int unit = device.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 8 ? 128 : 256;
    const int64_t bytes = function.attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) + static_cast<int64_t>(dynamic) +
                          device.attribute(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    return (bytes + unit - 1) / unit * unit;
}

}  // namespace

int active_blocks(const Device& device, const Function& function, int block, size_t dynamic_shared) {
    if (block > function.attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)) return 0;
    if (dynamic_shared > static_cast<size_t>(function.dynamic_shared_limit)) return 0;
    const auto warps = static_cast<size_t>((block + warp - 1) / warp);
    if (!warps || warps > function.blocks_by_warps.size()) return 0;
    int64_t blocks = function.blocks_by_warps[warps - 1];
    if (dynamic_shared) {
        const int64_t shared = shared_of_block(device, function, dynamic_shared);
        blocks = std::min(blocks, device.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / shared);
    }
    return static_cast<int>(blocks);
}

namespace shim {
namespace {

struct Kernel {
    const Function* function = nullptr;
    const Device* device = nullptr;
};

CUresult find_kernel(CUfunction handle, Kernel& kernel) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult failure = CUDA_SUCCESS;
    kernel.function = find_function(handle, failure);
    kernel.device = client().device(context->device);
    return failure;
}

int active_blocks(const Kernel& kernel, int block, size_t dynamic) {
    return gpuferry::active_blocks(*kernel.device, *kernel.function, block, dynamic);
}

}  // namespace

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* numBlocks, CUfunction func, int blockSize,
                                                              size_t dynamicSMemSize, unsigned flags) {
    Kernel kernel;
    if (const CUresult failure = find_kernel(func, kernel)) return failure;
    if (!numBlocks || blockSize <= 0 || (flags & ~static_cast<unsigned>(CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *numBlocks = active_blocks(kernel, blockSize, dynamicSMemSize);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize) {
    return shim::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize, dynamicSMemSize, 0);
}

// The block size with the most active threads; the largest among equals.
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* minGridSize, int* blockSize, CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit, unsigned flags) {
    Kernel kernel;
    if (const CUresult failure = find_kernel(func, kernel)) return failure;
    if (!minGridSize || !blockSize || (flags & ~static_cast<unsigned>(CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    int most = kernel.function->attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (blockSizeLimit > 0) most = std::min(most, blockSizeLimit);
    int best_threads = 0, best_blocks = 0;
    *blockSize = 0;
    for (int size = (most + warp - 1) / warp * warp; size > 0; size -= warp) {
        const int tried = std::min(size, most);
        const size_t shared = blockSizeToDynamicSMemSize ? blockSizeToDynamicSMemSize(tried) : dynamicSMemSize;
        const int blocks = active_blocks(kernel, tried, shared);
        if (blocks * tried <= best_threads) continue;
        best_threads = blocks * tried;
        best_blocks = blocks;
        *blockSize = tried;
    }
    *minGridSize = best_blocks * kernel.device->attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize,
                                          int blockSizeLimit) {
    return shim::cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
                                                           dynamicSMemSize, blockSizeLimit, 0);
}

}  // namespace shim
}  // namespace gpuferry
