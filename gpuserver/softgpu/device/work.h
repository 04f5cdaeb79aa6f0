// What a stream can be given to do and what a graph's node holds: the same things.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "device/copy.h"
#include "device/event.h"
#include "device/launch.h"

namespace softgpu {

class Graph;
struct GraphMemory;

struct KernelWork {
    CUfunction handle = nullptr;  // as the program gave it
    std::shared_ptr<Function> function;
    Dim3 grid, block;
    uint32_t shared_bytes = 0;
    std::vector<std::byte> parameters;
    LaunchOptions options;
    CUcontext context = nullptr;
    int priority = 0;
    CUaccessPolicyWindow access_policy{};
    int mem_sync_domain = 0;
};

struct CopyWork {
    Copy copy;
    CUDA_MEMCPY3D description{};
    CUcontext context = nullptr;
    // From a copy call; the description is made to match.
    static CopyWork of(const Copy& copy);
    static CopyWork of(const CUDA_MEMCPY3D& description, CUcontext context);
};

struct SetWork {
    Set set;
    CUcontext context = nullptr;
    static SetWork of(const Set& set, CUcontext context) { return {set, context}; }
};

struct HostWork {
    CUhostFn function = nullptr;
    void* data = nullptr;
};

struct RecordWork {
    std::shared_ptr<Event> event;
};

struct WaitWork {
    std::shared_ptr<Event> event;
};

struct BatchWork {
    CUcontext context = nullptr;
    std::vector<CUstreamBatchMemOpParams> operations;
    unsigned flags = 0;
};

struct AllocWork {
    std::shared_ptr<GraphMemory> memory;
    CUDA_MEM_ALLOC_NODE_PARAMS parameters{};
    std::vector<CUmemAccessDesc> access;
};

struct FreeWork {
    CUdeviceptr address = 0;
};

struct ChildWork {
    std::shared_ptr<Graph> graph;
};

struct EmptyWork {};

using Work = std::variant<EmptyWork, KernelWork, CopyWork, SetWork, HostWork, RecordWork, WaitWork, BatchWork,
                          AllocWork, FreeWork, ChildWork>;

CUgraphNodeType type_of(const Work& work);

// Do it, on the calling thread. Throw DriverError; what they throw becomes the context's sticky error.
void perform_kernel(const KernelWork& work);
void perform_host_function(CUhostFn function, void* data);
void perform_batch(const BatchWork& work, const Context& context);

// Throw INVALID_VALUE for an operation that is none or an address that is not aligned or not known.
void check_batch(const std::vector<CUstreamBatchMemOpParams>& operations);

}  // namespace softgpu
