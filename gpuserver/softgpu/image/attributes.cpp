#include "image/attributes.h"

#include <algorithm>

namespace softgpu {
namespace {

int device_limit(const Device& device, CUdevice_attribute attribute) {
    return device_attribute(device, attribute);
}

int default_dynamic_shared(const KernelInfo& info, const Device& device) {
    int limit = device_limit(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    return std::max(0, limit - static_cast<int>(info.static_shared_bytes));
}

// The engine's registers are its own and have no limit; what is reported always lets the largest block run.
int reported_registers(const KernelInfo& info, const Device& device) {
    int file = device_limit(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    int most = file / std::max(1, static_cast<int>(info.max_threads)) / 8 * 8;
    return std::clamp(static_cast<int>(info.registers), 1, std::min(255, most));
}

}  // namespace

int kernel_attribute(const KernelInfo& info, const Device& device, CUfunction_attribute attribute) {
    const Dim3& cluster = info.required_cluster;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
            return std::min(static_cast<int>(info.max_threads),
                            device_limit(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
            return static_cast<int>(info.static_shared_bytes);
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
            return 0;  // constants of a kernel of its own; module constants are not counted by CUDA either
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
            return static_cast<int>(info.local_bytes);
        case CU_FUNC_ATTRIBUTE_NUM_REGS:
            return reported_registers(info, device);
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
            return info.target;
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
            return device.config().capability_major * 10 + device.config().capability_minor;
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
            return 0;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            return default_dynamic_shared(info, device);
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return -1;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
            return cluster.x != 0;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
            return static_cast<int>(cluster.x);
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
            return static_cast<int>(cluster.y);
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
            return static_cast<int>(cluster.z);
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
        case CU_FUNC_ATTRIBUTE_DEVICE_NODE_UPDATE_SUPPORTED:
        case CU_FUNC_ATTRIBUTE_SHARED_MEMORY_MODE:
            return 0;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            return CU_CLUSTER_SCHEDULING_POLICY_DEFAULT;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "no such function attribute");
    }
}

int function_attribute(const Function& function, const Device& device, CUfunction_attribute attribute) {
    const KernelInfo& info = function.info();
    auto set_or_required = [&](const std::atomic<int>& set) {
        return set.load() ? set.load() : kernel_attribute(info, device, attribute);
    };
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            return max_dynamic_shared(function, device);
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return function.preferred_carveout;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
            return set_or_required(function.cluster_width);
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
            return set_or_required(function.cluster_height);
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
            return set_or_required(function.cluster_depth);
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            return function.non_portable_cluster;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            return function.cluster_policy;
        default:
            return kernel_attribute(info, device, attribute);
    }
}

void check_function_attribute(const KernelInfo& info, const Device& device, CUfunction_attribute attribute, int value) {
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
            int limit = device_limit(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
            return check_value(value >= 0 && value <= limit - static_cast<int>(info.static_shared_bytes),
                               "more shared memory than a block can have");
        }
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return check_value(value >= -1 && value <= 100, "a carveout is -1 or a percentage");
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
            check_value(value >= 0, "a cluster's size is not negative");
            // What __cluster_dims__ fixed at compile time stays.
            if (info.required_cluster.x)
                throw DriverError(CUDA_ERROR_NOT_PERMITTED, "the cluster's size is compiled in");
            return;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            return check_value(value == 0 || value == 1, "a flag is 0 or 1");
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            return check_value(
                value >= CU_CLUSTER_SCHEDULING_POLICY_DEFAULT && value <= CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING,
                "no such scheduling policy");
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "the attribute cannot be set");
    }
}

void set_function_attribute(Function& function, CUfunction_attribute attribute, int value) {
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            function.max_dynamic_shared = value;
            break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            function.preferred_carveout = value;
            break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
            function.cluster_width = value;
            break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
            function.cluster_height = value;
            break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
            function.cluster_depth = value;
            break;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            function.non_portable_cluster = value;
            break;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            function.cluster_policy = value;
            break;
        default:
            break;
    }
}

int max_dynamic_shared(const Function& function, const Device& device) {
    int set = function.max_dynamic_shared;
    return set >= 0 ? set : default_dynamic_shared(function.info(), device);
}

}  // namespace softgpu
