// Occupancy of clusters: the server's driver knows.
#include "call.h"
#include "launch_parameters.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

CUresult ask_number(Op op, int* number, CUfunction handle, const CUlaunchConfig* config) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    if (!number || !config || (config->numAttrs && !config->attrs)) return CUDA_ERROR_INVALID_VALUE;
    if (config->numAttrs > most_launch_attributes) return CUDA_ERROR_INVALID_VALUE;
    const LaunchFrame frame{{config->gridDimX, config->gridDimY, config->gridDimZ},
                            {config->blockDimX, config->blockDimY, config->blockDimZ},
                            config->sharedMemBytes,
                            0,
                            config->numAttrs,
                            0};
    Call call(op);
    call.handle(Kind::function, function->handle);
    call.handle(Kind::stream, config->hStream);
    call.value(frame);
    call.bytes({reinterpret_cast<const char*>(config->attrs), frame.attributes * sizeof(CUlaunchAttribute)});
    call.ask();
    if (!call.result()) *number = static_cast<int>(call.results().take<int64_t>());
    return call.result();
}

}  // namespace

CUresult cuOccupancyMaxActiveClusters(int* numClusters, CUfunction func, const CUlaunchConfig* config) {
    return ask_number(Op::most_clusters, numClusters, func, config);
}
CUresult cuOccupancyMaxPotentialClusterSize(int* clusterSize, CUfunction func, const CUlaunchConfig* config) {
    return ask_number(Op::largest_cluster, clusterSize, func, config);
}

}  // namespace gpuferry::shim
