// Launches: limits, parameters, submission.
#include "device/launch.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "device/capture.h"
#include "device/error.h"
#include "device/work.h"
#include "log.h"

namespace softgpu {
namespace {

// Says so whatever the log level: programs that do not look at the result of a launch go on without it.
[[noreturn]] void refuse(CUresult code, const Function& function, const std::string& why) {
    const std::string line = "launch of " + function.name + ": " + why;
    log_line(LogLevel::warning, line);
    throw DriverError(code, line);
}

}  // namespace

int max_dynamic_shared(const Device& device, const Function& function) {
    const int set = function.max_dynamic_shared.load();
    if (set >= 0) return set;
    return device_attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK) -
           static_cast<int>(function.info().static_shared_bytes);
}

int reported_registers(const KernelInfo& info, const Device& device) {
    const int file = device_attribute(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    const int most = file / std::max(1, static_cast<int>(info.max_threads)) / 8 * 8;
    return std::clamp(static_cast<int>(info.registers), 1, std::min(255, most));
}

int resident_blocks(const KernelInfo& info, const Device& device, uint64_t block_threads, uint64_t dynamic_shared) {
    const auto limit = [&](CUdevice_attribute attribute) {
        return static_cast<uint64_t>(device_attribute(device, attribute));
    };
    const uint64_t threads = (block_threads + 31) / 32 * 32;
    const uint64_t registers = (static_cast<uint64_t>(reported_registers(info, device)) + 7) / 8 * 8 * threads;
    const uint64_t shared =
        info.static_shared_bytes + dynamic_shared + limit(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    uint64_t blocks = std::min({limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR),
                                limit(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR) / threads,
                                limit(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR) / registers});
    if (shared) blocks = std::min(blocks, limit(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / shared);
    return static_cast<int>(blocks);
}

void check_launch(const Device& device, const Function& function, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                  const LaunchOptions& options) {
    const auto limit = [&](CUdevice_attribute attribute) {
        return static_cast<uint64_t>(device_attribute(device, attribute));
    };
    const KernelInfo& info = function.info();
    if (!grid.volume() || !block.volume()) refuse(CUDA_ERROR_INVALID_VALUE, function, "a dimension is zero");
    if (grid.x > limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X) || grid.y > limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y) ||
        grid.z > limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)) {
        refuse(CUDA_ERROR_INVALID_VALUE, function, "the grid is larger than the device allows");
    }
    if (block.x > limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X) || block.y > limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y) ||
        block.z > limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z) ||
        block.volume() > limit(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)) {
        refuse(CUDA_ERROR_INVALID_VALUE, function, "the block is larger than the device allows");
    }
    if (block.volume() > info.max_threads) {
        // What .maxntid or .reqntid promised the compiler.
        refuse(CUDA_ERROR_INVALID_VALUE, function, "the block is larger than the kernel allows");
    }
    if (info.required_block.volume() &&
        (block.x != info.required_block.x || block.y != info.required_block.y || block.z != info.required_block.z)) {
        refuse(CUDA_ERROR_INVALID_VALUE, function, "the block is not of the shape that the kernel requires");
    }
    if (static_cast<int64_t>(shared_bytes) > max_dynamic_shared(device, function) ||
        uint64_t{shared_bytes} + info.static_shared_bytes >
            limit(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)) {
        refuse(CUDA_ERROR_INVALID_VALUE, function,
               std::to_string(shared_bytes) + " bytes of dynamic shared memory are more than the kernel may have");
    }
    const Dim3& cluster = options.cluster;
    if (!cluster.volume()) refuse(CUDA_ERROR_INVALID_VALUE, function, "a cluster dimension is zero");
    if (cluster.volume() > 1) {
        if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) {
            refuse(CUDA_ERROR_INVALID_VALUE, function, "the grid is no multiple of the cluster");
        }
        const uint64_t most = function.non_portable_cluster.load() ? 16 : 8;
        if (cluster.volume() > most) refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, function, "the cluster is too large");
    }
    if (info.required_cluster.volume() &&
        (cluster.x != info.required_cluster.x || cluster.y != info.required_cluster.y ||
         cluster.z != info.required_cluster.z)) {
        refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, function, "the cluster is not what the kernel requires");
    }
    if (options.cooperative) {
        const auto resident = static_cast<uint64_t>(resident_blocks(info, device, block.volume(), shared_bytes));
        if (grid.volume() > resident * limit(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)) {
            refuse(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, function, "the blocks cannot all be resident");
        }
    }
}

std::vector<std::byte> gather_parameters(const KernelInfo& kernel, void** kernel_parameters, void** extra) {
    std::vector<std::byte> buffer(kernel.parameter_bytes);
    if (kernel_parameters && extra) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "both kernelParams and extra are given");
    }
    if (extra) {
        const void* bytes = nullptr;
        const size_t* size = nullptr;
        for (void** entry = extra; *entry != CU_LAUNCH_PARAM_END; entry += 2) {
            if (*entry == CU_LAUNCH_PARAM_BUFFER_POINTER) {
                bytes = entry[1];
            } else if (*entry == CU_LAUNCH_PARAM_BUFFER_SIZE) {
                size = static_cast<const size_t*>(entry[1]);
            } else {
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown entry in extra");
            }
        }
        check_value(bytes && size, "extra lacks the buffer or its size");
        // The buffer may be shorter than the parameters: NCCL gives only as much of its 4 KB as it has filled.
        if (!buffer.empty()) std::memcpy(buffer.data(), bytes, std::min(*size, buffer.size()));
        return buffer;
    }
    if (kernel.parameters.empty()) return buffer;
    check_value(kernel_parameters, "the kernel has parameters, none are given");
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
        check_value(kernel_parameters[i], "a kernel parameter is NULL");
        std::memcpy(buffer.data() + kernel.parameters[i].offset, kernel_parameters[i], kernel.parameters[i].size);
    }
    return buffer;
}

CUresult submit_launch(Context& context, const std::shared_ptr<Stream>& stream,
                       const std::shared_ptr<Function>& function, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                       std::vector<std::byte> parameters, const LaunchOptions& options) {
    check_launch(context.device(), *function, grid, block, shared_bytes, options);
    KernelWork work;
    work.handle = options.handle ? options.handle : handle_of(*function);
    work.function = function;
    work.grid = grid;
    work.block = block;
    work.shared_bytes = shared_bytes;
    work.parameters = std::move(parameters);
    work.options = options;
    work.context = handle_of(context);
    work.priority = options.priority;
    if (capture_work(*stream, [&] { return work; })) return CUDA_SUCCESS;
    stream->enqueue({[work = std::make_shared<KernelWork>(std::move(work))] { perform_kernel(*work); }});
    return CUDA_SUCCESS;
}

}  // namespace softgpu
