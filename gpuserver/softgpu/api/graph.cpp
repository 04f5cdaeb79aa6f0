// Graphs as such: life, nodes and edges, clones, user objects, the picture.
#include "device/graph.h"

#include <algorithm>
#include <cstdio>

#include "api/graph_params.h"

using namespace softgpu;

namespace {

// CUDA's way to return a list: without an array the length; with one as much as fits, the rest set to NULL.
template <class Item, class Out>
void give(const std::vector<Item>& items, Out* out, size_t* count) {
    check_value(count, "the count is NULL");
    if (out) {
        for (size_t i = 0; i < *count; ++i) out[i] = i < items.size() ? items[i] : Out{};
        *count = std::min(*count, items.size());
    } else {
        *count = items.size();
    }
}

struct EdgeList {
    std::vector<CUgraphNode> from, to;
    std::vector<CUgraphEdgeData> data;
    void add(const GraphNode& source, const GraphNode& target, const CUgraphEdgeData& edge) {
        from.push_back(handle_of(source));
        to.push_back(handle_of(target));
        data.push_back(edge);
    }
};

bool plain(const CUgraphEdgeData& data) {
    return data.from_port == 0 && data.to_port == 0 && data.type == 0;
}

void give_edges(const EdgeList& edges, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data, size_t* count) {
    check_value(count, "the count is NULL");
    const bool wanted = from || to;
    if (wanted && !data && !std::all_of(edges.data.begin(), edges.data.end(), plain)) {
        throw DriverError(CUDA_ERROR_LOSSY_QUERY, "the edges carry data, for which there is no room");
    }
    size_t room = *count;
    if (data) {
        check_value(wanted, "edge data without nodes");
        size_t entries = room;
        give(edges.data, data, &entries);
    }
    if (from) {
        size_t entries = room;
        give(edges.from, from, &entries);
    }
    if (to) {
        size_t entries = room;
        give(edges.to, to, &entries);
    }
    *count = wanted ? std::min(room, edges.from.size()) : edges.from.size();
}

void get_edges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data, size_t* count) {
    const GraphLock lock(graph_mutex());
    const auto graph = require<Graph>(handle);
    check_value(!from == !to, "from and to go together");
    EdgeList edges;
    for (const auto& node : graph->nodes) {
        for (const auto& edge : node->dependencies) edges.add(*edge.node, *node, edge.data);
    }
    give_edges(edges, from, to, data, count);
}

void get_dependencies(CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data, size_t* count) {
    const GraphLock lock(graph_mutex());
    const auto node = require<GraphNode>(handle);
    EdgeList edges;
    for (const auto& edge : node->dependencies) edges.add(*edge.node, *node, edge.data);
    give_edges(edges, out, nullptr, data, count);
}

void get_dependents(CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data, size_t* count) {
    const GraphLock lock(graph_mutex());
    const auto node = require<GraphNode>(handle);
    EdgeList edges;
    std::vector<const GraphNode*> seen;
    for (const GraphNode* dependent : node->dependents) {
        if (std::find(seen.begin(), seen.end(), dependent) != seen.end()) continue;
        seen.push_back(dependent);
        for (const auto& edge : dependent->dependencies) {
            if (edge.node == node) edges.add(*node, *dependent, edge.data);
        }
    }
    give_edges(edges, nullptr, out, data, count);
}

void change_edges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to, const CUgraphEdgeData* data,
                  size_t count, bool add) {
    const GraphLock lock(graph_mutex());
    const auto graph = require<Graph>(handle);
    check_value(count == 0 || (from && to), "from or to is NULL");
    for (size_t i = 0; i < count; ++i) {
        const auto source = require<GraphNode>(from[i]), target = require<GraphNode>(to[i]);
        if (add) {
            graph->add_edge(source, target, data ? &data[i] : nullptr);
        } else {
            graph->remove_edge(source, target, data ? &data[i] : nullptr);
        }
    }
}

const char* type_name(CUgraphNodeType type) {
    switch (type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return "KERNEL";
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return "MEMCPY";
        case CU_GRAPH_NODE_TYPE_MEMSET:
            return "MEMSET";
        case CU_GRAPH_NODE_TYPE_HOST:
            return "HOST";
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return "GRAPH";
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return "WAIT_EVENT";
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return "EVENT_RECORD";
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            return "MEM_ALLOC";
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return "MEM_FREE";
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            return "BATCH_MEM_OP";
        default:
            return "EMPTY";
    }
}

std::string picture(const Graph& graph, unsigned flags) {
    std::string text = "digraph graph_" + std::to_string(graph.id) + " {\n";
    for (const auto& node : graph.nodes) {
        std::string label = std::to_string(node->local_id) + " " + type_name(type_of(node->work));
        if (const auto* kernel = std::get_if<KernelWork>(&node->work)) {
            label += "\\n" + kernel->function->name;
            if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS)) {
                const auto dim = [](const Dim3& d) {
                    return std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z);
                };
                label += "\\ngrid " + dim(kernel->grid) + " block " + dim(kernel->block) + " shared " +
                         std::to_string(kernel->shared_bytes);
            }
        }
        text += "  node_" + std::to_string(node->local_id) + " [label=\"" + label + "\"];\n";
        for (const auto& edge : node->dependencies) {
            text +=
                "  node_" + std::to_string(edge.node->local_id) + " -> node_" + std::to_string(node->local_id) + ";\n";
        }
    }
    return text + "}\n";
}

}  // namespace

extern "C" CUresult CUDAAPI cuGraphCreate(CUgraph* phGraph, unsigned flags) {
    return entry(__func__, [&] {
        check_value(phGraph && flags == 0, "phGraph is NULL or flags are not 0");
        *phGraph = handle_of(*Graph::create());
    });
}

extern "C" CUresult CUDAAPI cuGraphDestroy(CUgraph hGraph) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto graph = require<Graph>(hGraph);
        check_value(!graph->embedded, "the graph is part of a child graph node");
        destroy_graph(graph);
    });
}

extern "C" CUresult CUDAAPI cuGraphClone(CUgraph* phGraphClone, CUgraph originalGraph) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto graph = require<Graph>(originalGraph);
        check_value(phGraphClone, "phGraphClone is NULL");
        if (graph->has_memory_nodes()) return CUDA_ERROR_NOT_SUPPORTED;
        *phGraphClone = handle_of(*graph->clone());
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuGraphGetId(CUgraph hGraph, unsigned* graphId) {
    return entry(__func__, [&] {
        const auto graph = require<Graph>(hGraph);
        check_value(graphId, "graphId is NULL");
        *graphId = graph->id;
    });
}

extern "C" CUresult CUDAAPI cuGraphGetNodes(CUgraph hGraph, CUgraphNode* nodes, size_t* numNodes) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        std::vector<CUgraphNode> all;
        for (const auto& node : require<Graph>(hGraph)->nodes) all.push_back(handle_of(*node));
        give(all, nodes, numNodes);
    });
}

extern "C" CUresult CUDAAPI cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode* rootNodes, size_t* numRootNodes) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        std::vector<CUgraphNode> roots;
        for (const auto& node : require<Graph>(hGraph)->nodes) {
            if (node->dependencies.empty()) roots.push_back(handle_of(*node));
        }
        give(roots, rootNodes, numRootNodes);
    });
}

extern "C" CUresult CUDAAPI cuGraphGetEdges(CUgraph hGraph, CUgraphNode* from, CUgraphNode* to, size_t* numEdges) {
    return entry(__func__, [&] { get_edges(hGraph, from, to, nullptr, numEdges); });
}

extern "C" CUresult CUDAAPI cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode* from, CUgraphNode* to,
                                               CUgraphEdgeData* edgeData, size_t* numEdges) {
    return entry(__func__, [&] { get_edges(hGraph, from, to, edgeData, numEdges); });
}

extern "C" CUresult CUDAAPI cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                                   size_t numDependencies) {
    return entry(__func__, [&] { change_edges(hGraph, from, to, nullptr, numDependencies, true); });
}

extern "C" CUresult CUDAAPI cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                                      const CUgraphEdgeData* edgeData, size_t numDependencies) {
    return entry(__func__, [&] { change_edges(hGraph, from, to, edgeData, numDependencies, true); });
}

extern "C" CUresult CUDAAPI cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                                      size_t numDependencies) {
    return entry(__func__, [&] { change_edges(hGraph, from, to, nullptr, numDependencies, false); });
}

extern "C" CUresult CUDAAPI cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                                         const CUgraphEdgeData* edgeData, size_t numDependencies) {
    return entry(__func__, [&] { change_edges(hGraph, from, to, edgeData, numDependencies, false); });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode* dependencies,
                                                       size_t* numDependencies) {
    return entry(__func__, [&] { get_dependencies(hNode, dependencies, nullptr, numDependencies); });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode* dependencies,
                                                          CUgraphEdgeData* edgeData, size_t* numDependencies) {
    return entry(__func__, [&] { get_dependencies(hNode, dependencies, edgeData, numDependencies); });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode* dependentNodes,
                                                         size_t* numDependentNodes) {
    return entry(__func__, [&] { get_dependents(hNode, dependentNodes, nullptr, numDependentNodes); });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode* dependentNodes,
                                                            CUgraphEdgeData* edgeData, size_t* numDependentNodes) {
    return entry(__func__, [&] { get_dependents(hNode, dependentNodes, edgeData, numDependentNodes); });
}

extern "C" CUresult CUDAAPI cuGraphDestroyNode(CUgraphNode hNode) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(!std::holds_alternative<AllocWork>(node->work) && !std::holds_alternative<FreeWork>(node->work),
                    "memory nodes cannot be removed from a graph");
        node->graph->remove(node);
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeFindInClone(CUgraphNode* phNode, CUgraphNode hOriginalNode,
                                                   CUgraph hClonedGraph) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto graph = require<Graph>(hClonedGraph);
        check_value(phNode, "phNode is NULL");
        for (const auto& node : graph->nodes) {
            if (node->original == to_value(hOriginalNode)) {
                *phNode = handle_of(*node);
                return;
            }
        }
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the graph has no clone of this node");
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType* type) {
    return entry(__func__, [&] {
        const auto node = require<GraphNode>(hNode);
        check_value(type, "type is NULL");
        *type = type_of(node->work);
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetContainingGraph(CUgraphNode hNode, CUgraph* phGraph) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(phGraph, "phGraph is NULL");
        *phGraph = handle_of(*node->graph);
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetLocalId(CUgraphNode hNode, unsigned* nodeId) {
    return entry(__func__, [&] {
        const auto node = require<GraphNode>(hNode);
        check_value(nodeId, "nodeId is NULL");
        *nodeId = node->local_id;
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetToolsId(CUgraphNode hNode, unsigned long long* toolsNodeId) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(toolsNodeId, "toolsNodeId is NULL");
        *toolsNodeId = uint64_t{node->graph->id} << 32 | node->local_id;
    });
}

extern "C" CUresult CUDAAPI cuGraphDebugDotPrint(CUgraph hGraph, const char* path, unsigned flags) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto graph = require<Graph>(hGraph);
        check_value(path, "path is NULL");
        const std::string text = picture(*graph, flags);
        std::FILE* file = std::fopen(path, "w");
        if (!file) return CUDA_ERROR_OPERATING_SYSTEM;
        const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
        return std::fclose(file) == 0 && written ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
    });
}

// --- user objects

extern "C" CUresult CUDAAPI cuUserObjectCreate(CUuserObject* object_out, void* ptr, CUhostFn destroy,
                                               unsigned initialRefcount, unsigned flags) {
    return entry(__func__, [&] {
        check_value(object_out && destroy && initialRefcount && initialRefcount <= INT32_MAX &&
                        flags == CU_USER_OBJECT_NO_DESTRUCTOR_SYNC,
                    "an argument is NULL, 0 or unknown");
        *object_out = publish(std::make_shared<UserObject>(ptr, destroy, initialRefcount));
    });
}

extern "C" CUresult CUDAAPI cuUserObjectRetain(CUuserObject object, unsigned count) {
    return entry(__func__, [&] {
        check_value(count && count <= INT32_MAX, "count is 0");
        require<UserObject>(object)->retain(count);
    });
}

extern "C" CUresult CUDAAPI cuUserObjectRelease(CUuserObject object, unsigned count) {
    return entry(__func__, [&] {
        check_value(count && count <= INT32_MAX, "count is 0");
        require<UserObject>(object)->release(count);
    });
}

extern "C" CUresult CUDAAPI cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned count,
                                                    unsigned flags) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto wanted = require<UserObject>(object);
        const auto holder = require<Graph>(graph);
        check_value(count && count <= INT32_MAX && (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) == 0,
                    "count is 0 or flags are unknown");
        if (!(flags & CU_GRAPH_USER_OBJECT_MOVE)) wanted->retain(count);
        for (auto& [held, references] : holder->retained) {
            if (held == wanted) {
                references += count;
                return;
            }
        }
        holder->retained.push_back({wanted, count});
    });
}

extern "C" CUresult CUDAAPI cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned count) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto wanted = require<UserObject>(object);
        auto& retained = require<Graph>(graph)->retained;
        const auto found =
            std::find_if(retained.begin(), retained.end(), [&](const auto& entry) { return entry.object == wanted; });
        check_value(found != retained.end() && found->count >= count && count, "the graph holds fewer references");
        found->count -= count;
        if (found->count == 0) retained.erase(found);
        wanted->release(count);
    });
}
