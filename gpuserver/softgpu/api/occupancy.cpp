// cuOccupancy*: how many blocks fit on a multiprocessor, by the limits that the device reports.
#include <algorithm>

#include "api/entry.h"
#include "image/attributes.h"
#include "image/library.h"

using namespace softgpu;

namespace {

constexpr int warp_size = 32;
constexpr int portable_cluster = 8, largest_cluster = 16;  // blocks

struct Occupant {
    std::shared_ptr<Function> function;
    std::shared_ptr<Context> context;

    explicit Occupant(CUfunction handle) : function(resolve_function(handle)), context(function->context.lock()) {
        if (!context) throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the function's context ended");
    }
    [[nodiscard]] int device(CUdevice_attribute attribute) const {
        return device_attribute(context->device(), attribute);
    }
    [[nodiscard]] int attribute(CUfunction_attribute attribute) const {
        return function_attribute(*function, context->device(), attribute);
    }
};

int round_up(int value, int step) {
    return (value + step - 1) / step * step;
}

// Blocks of a multiprocessor; 0 when a single one does not fit.
int active_blocks(const Occupant& kernel, int block_size, size_t dynamic_shared) {
    check_value(block_size > 0, "a block has at least one thread");
    int max_threads = kernel.attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (block_size > max_threads) return 0;
    auto max_dynamic = static_cast<size_t>(kernel.attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES));
    if (dynamic_shared > max_dynamic) return 0;
    int threads = round_up(block_size, warp_size);
    int blocks = std::min(kernel.device(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR),
                          kernel.device(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR) / threads);
    int registers = round_up(kernel.attribute(CU_FUNC_ATTRIBUTE_NUM_REGS), 8) * threads;
    blocks = std::min(blocks, kernel.device(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR) / registers);
    int shared = kernel.attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) + static_cast<int>(dynamic_shared) +
                 kernel.device(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    if (shared > 0) {
        blocks = std::min(blocks, kernel.device(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / shared);
    }
    return blocks;
}

// The block size with the most active threads; the largest among equals.
void best_block(const Occupant& kernel, CUoccupancyB2DSize shared_of_block, size_t shared, int limit, int* grid,
                int* block) {
    int most = kernel.attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (limit > 0) most = std::min(most, limit);
    int best_threads = 0, best_blocks = 0;
    *block = 0;
    for (int size = round_up(most, warp_size); size > 0; size -= warp_size) {
        int tried = std::min(size, most);
        int blocks = active_blocks(kernel, tried, shared_of_block ? shared_of_block(tried) : shared);
        if (blocks * tried <= best_threads) continue;
        best_threads = blocks * tried;
        best_blocks = blocks;
        *block = tried;
    }
    *grid = best_blocks * kernel.device(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
}

CUresult max_active_blocks(const char* name, int* count, CUfunction function, int block, size_t shared,
                           unsigned flags) {
    return entry(name, [&] {
        check_value(count != nullptr, "no place for the count");
        check_value((flags & ~CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) == 0, "unknown flags");
        *count = active_blocks(Occupant(function), block, shared);
    });
}

CUresult max_potential_block(const char* name, int* grid, int* block, CUfunction function,
                             CUoccupancyB2DSize shared_of_block, size_t shared, int limit, unsigned flags) {
    return entry(name, [&] {
        check_value(grid && block, "no place for the sizes");
        check_value((flags & ~CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) == 0, "unknown flags");
        best_block(Occupant(function), shared_of_block, shared, limit, grid, block);
    });
}

int cluster_volume(const Occupant& kernel, const CUlaunchConfig& config) {
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        if (config.attrs[i].id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) continue;
        const auto& cluster = config.attrs[i].value.clusterDim;
        uint64_t volume = uint64_t{cluster.x} * cluster.y * cluster.z;
        check_value(volume > 0 && volume <= largest_cluster, "a cluster of an impossible size");
        return static_cast<int>(volume);
    }
    int width = kernel.attribute(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH);
    if (width == 0) return 1;
    return width * std::max(1, kernel.attribute(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT)) *
           std::max(1, kernel.attribute(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH));
}

int block_volume(const CUlaunchConfig& config) {
    uint64_t volume = uint64_t{config.blockDimX} * config.blockDimY * config.blockDimZ;
    check_value(volume > 0 && volume <= INT32_MAX, "a block of an impossible size");
    check_value(config.numAttrs == 0 || config.attrs, "launch attributes without their array");
    return static_cast<int>(volume);
}

}  // namespace

extern "C" CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessor(int* numBlocks, CUfunction func, int blockSize,
                                                                        size_t dynamicSMemSize) {
    return max_active_blocks(__func__, numBlocks, func, blockSize, dynamicSMemSize, 0);
}

extern "C" CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* numBlocks, CUfunction func,
                                                                                 int blockSize, size_t dynamicSMemSize,
                                                                                 unsigned int flags) {
    return max_active_blocks(__func__, numBlocks, func, blockSize, dynamicSMemSize, flags);
}

extern "C" CUresult CUDAAPI cuOccupancyMaxPotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                                                             CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                             size_t dynamicSMemSize, int blockSizeLimit) {
    return max_potential_block(__func__, minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize,
                               blockSizeLimit, 0);
}

extern "C" CUresult CUDAAPI cuOccupancyMaxPotentialBlockSizeWithFlags(int* minGridSize, int* blockSize, CUfunction func,
                                                                      CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                                      size_t dynamicSMemSize, int blockSizeLimit,
                                                                      unsigned int flags) {
    return max_potential_block(__func__, minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize,
                               blockSizeLimit, flags);
}

extern "C" CUresult CUDAAPI cuOccupancyAvailableDynamicSMemPerBlock(size_t* dynamicSmemSize, CUfunction func,
                                                                    int numBlocks, int blockSize) {
    return entry(__func__, [&] {
        check_value(dynamicSmemSize && numBlocks > 0, "no blocks, or no place for the size");
        Occupant kernel(func);
        check_value(active_blocks(kernel, blockSize, 0) >= numBlocks, "so many blocks do not fit");
        int each = kernel.device(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / numBlocks;
        int left = each - kernel.attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) -
                   kernel.device(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
        int allowed = kernel.attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
        *dynamicSmemSize = static_cast<size_t>(std::clamp(left, 0, allowed));
    });
}

extern "C" CUresult CUDAAPI cuOccupancyMaxPotentialClusterSize(int* clusterSize, CUfunction func,
                                                               const CUlaunchConfig* config) {
    return entry(__func__, [&] {
        check_value(clusterSize && config, "no configuration, or no place for the size");
        Occupant kernel(func);
        bool fits = active_blocks(kernel, block_volume(*config), config->sharedMemBytes) > 0;
        bool wide = kernel.attribute(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED) != 0;
        *clusterSize = !fits ? 0 : wide ? largest_cluster : portable_cluster;
    });
}

extern "C" CUresult CUDAAPI cuOccupancyMaxActiveClusters(int* numClusters, CUfunction func,
                                                         const CUlaunchConfig* config) {
    return entry(__func__, [&] {
        check_value(numClusters && config, "no configuration, or no place for the count");
        Occupant kernel(func);
        int blocks = active_blocks(kernel, block_volume(*config), config->sharedMemBytes) *
                     kernel.device(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        *numClusters = blocks / cluster_volume(kernel, *config);
        // A cluster's blocks run side by side on the threads of this machine; one always can.
        if (blocks > 0 && *numClusters == 0) *numClusters = 1;
    });
}
