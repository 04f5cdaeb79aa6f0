// Attributes of kernel nodes.
#include "api/graph_params.h"

using namespace softgpu;

namespace {

void tell(const KernelWork& work, CUkernelNodeAttrID attribute, CUkernelNodeAttrValue& out) {
    out = {};
    switch (attribute) {
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
            out.cooperative = work.options.cooperative;
            return;
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
            out.priority = work.priority;
            return;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
            const bool set = work.options.cluster.volume() > 1;
            out.clusterDim.x = set ? work.options.cluster.x : 0;
            out.clusterDim.y = set ? work.options.cluster.y : 0;
            out.clusterDim.z = set ? work.options.cluster.z : 0;
            return;
        }
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
            out.accessPolicyWindow = work.access_policy;
            return;
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
            out.memSyncDomain = static_cast<CUlaunchMemSyncDomain>(work.mem_sync_domain);
            return;
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
            return;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a kernel node");
    }
}

void set(KernelWork& work, CUkernelNodeAttrID attribute, const CUkernelNodeAttrValue& value) {
    LaunchOptions options = work.options;
    switch (attribute) {
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
            options.cooperative = value.cooperative != 0;
            break;
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
            work.priority = value.priority;
            return;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
            options.cluster = {std::max(value.clusterDim.x, 1U), std::max(value.clusterDim.y, 1U),
                               std::max(value.clusterDim.z, 1U)};
            break;
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
            work.access_policy = value.accessPolicyWindow;
            return;
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
            work.mem_sync_domain = value.memSyncDomain;
            return;
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
            return;  // hints
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a kernel node");
    }
    const auto context = work.function->context.lock();
    if (!context) throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the kernel's context was destroyed");
    check_launch(context->device(), *work.function, work.grid, work.block, work.shared_bytes, options);
    work.options = options;
}

}  // namespace

extern "C" CUresult CUDAAPI cuGraphKernelNodeGetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
                                                          CUkernelNodeAttrValue* value_out) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(value_out, "value_out is NULL");
        tell(work_as<KernelWork>(*node), attr, *value_out);
    });
}

extern "C" CUresult CUDAAPI cuGraphKernelNodeSetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
                                                          const CUkernelNodeAttrValue* value) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(value, "value is NULL");
        set(work_as<KernelWork>(*node), attr, *value);
    });
}

extern "C" CUresult CUDAAPI cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto to = require<GraphNode>(dst), from = require<GraphNode>(src);
        auto& target = work_as<KernelWork>(*to);
        const auto& source = work_as<KernelWork>(*from);
        target.options = source.options;
        target.priority = source.priority;
        target.access_policy = source.access_policy;
        target.mem_sync_domain = source.mem_sync_domain;
    });
}
