// Graphs: nodes of work and the edges between them, as a program builds or captures them.
//
// Graphs are not synchronised by CUDA; here every call on them holds graph_mutex() (capture.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "device/handle.h"
#include "device/work.h"

namespace softgpu {

class Graph;

class GraphNode final : public Object {
  public:
    using Handle = CUgraphNode;
    static constexpr Kind kind = Kind::graph_node;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;

    struct Edge {
        std::shared_ptr<GraphNode> node;
        CUgraphEdgeData data{};
    };

    Graph* graph = nullptr;  // null once removed
    Work work;
    uint64_t original = 0;  // handle of the node it is a clone of
    unsigned local_id = 0;  // within its graph
    std::vector<Edge> dependencies;
    std::vector<GraphNode*> dependents;  // once per edge
    // What cuGraphKernelNodeGetParams and cuGraphBatchMemOpNodeGetParams hand out pointers into.
    std::vector<void*> shown_parameters;
};
using NodePtr = std::shared_ptr<GraphNode>;

// Something of the program that graphs keep alive by count; `destroy` runs when nobody holds it any more.
class UserObject final : public Object {
  public:
    using Handle = CUuserObject;
    static constexpr Kind kind = Kind::user_object;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;
    UserObject(void* data, CUhostFn destroy, int64_t count) : data_(data), destroy_(destroy), count_(count) {}
    void retain(int64_t count) { count_ += count; }
    // Throws INVALID_VALUE when fewer references are left.
    void release(int64_t count);

  private:
    void* data_;
    CUhostFn destroy_;
    std::atomic<int64_t> count_;
};

class Graph final : public Object, public std::enable_shared_from_this<Graph> {
  public:
    using Handle = CUgraph;
    static constexpr Kind kind = Kind::graph;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;

    // Makes and publishes one.
    static std::shared_ptr<Graph> create();
    ~Graph() override;

    unsigned id = 0;
    bool embedded = false;       // a child node's own: not the program's to destroy
    std::vector<NodePtr> nodes;  // in order of creation

    // Throws INVALID_VALUE when a dependency is of another graph or named twice.
    NodePtr add(Work work, const std::vector<GraphNode::Edge>& dependencies);
    void remove(const NodePtr& node);
    // `data` null: no data. Throws INVALID_VALUE for nodes of other graphs, edges that are there already, cycles.
    void add_edge(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData* data);
    void remove_edge(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData* data);
    // A deep copy, published.
    std::shared_ptr<Graph> clone() const;
    // Nodes such that dependencies come first.
    [[nodiscard]] std::vector<NodePtr> in_order() const;
    [[nodiscard]] bool has_memory_nodes() const;

    struct Retained {
        std::shared_ptr<UserObject> object;
        int64_t count;
    };
    std::vector<Retained> retained;

  private:
    unsigned next_local_id_ = 1;
};

// Withdraws a graph's handle and those of its nodes and child graphs.
void destroy_graph(const std::shared_ptr<Graph>& graph);

// The memory of an allocation node: its address is fixed, its pages are the program's from the node's turn until it
// is freed.
struct GraphMemory : std::enable_shared_from_this<GraphMemory> {
    // `accessible_by`: a bit per further device.
    GraphMemory(Device& device, uint64_t size, uint64_t accessible_by);
    ~GraphMemory();
    [[nodiscard]] bool allocated() const { return piece->writable_by.load() != 0; }
    // Throws INVALID_VALUE when it is allocated already.
    void allocate();
    void free();
    Device& device;
    const uint64_t devices;
    AllocationPtr piece;
};

}  // namespace softgpu
