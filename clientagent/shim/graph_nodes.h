// What the files about graph nodes share.
#pragma once

#include "call.h"

namespace gpuferry {

// How a node's parameters come to the server: with a new node, for a node of a graph, or for one in a runnable graph.
struct NodeTarget {
    CUgraphNode* made = nullptr;  // a new node
    CUgraph graph = nullptr;
    const CUgraphNode* dependencies = nullptr;
    size_t dependency_count = 0;
    CUgraphNode node = nullptr;  // an existing one
    CUgraphExec exec = nullptr;

    [[nodiscard]] CUresult check() const;
    // That of the graph.
    [[nodiscard]] Server& server() const {
        return client().server_of(to_handle(graph) ? to_handle(graph) : to_handle(node));
    }
    // The fields ahead of the node's own parameters.
    void put(Call& call) const;
    // Waits for the answer and takes the new node from it.
    CUresult ask(Call& call) const;
};

inline NodeTarget new_node(CUgraphNode* made, CUgraph graph, const CUgraphNode* dependencies, size_t count) {
    return {made, graph, dependencies, count, nullptr, nullptr};
}
inline NodeTarget node_of_graph(CUgraphNode node) {
    return {nullptr, nullptr, nullptr, 0, node, nullptr};
}
inline NodeTarget node_of_exec(CUgraphExec exec, CUgraphNode node) {
    return {nullptr, nullptr, nullptr, 0, node, exec};
}

CUresult put_kernel_node(const NodeTarget& target, const CUDA_KERNEL_NODE_PARAMS_v3& parameters);
CUresult put_copy_node(const NodeTarget& target, const CUDA_MEMCPY3D* copy, CUcontext context);
CUresult put_host_node(const NodeTarget& target, const CUDA_HOST_NODE_PARAMS& parameters);

}  // namespace gpuferry
