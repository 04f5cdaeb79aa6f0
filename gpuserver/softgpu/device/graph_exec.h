// Executable graphs: a graph as it was when it was instantiated, ready to be launched any number of times.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "device/graph.h"
#include "device/stream.h"

namespace softgpu {

struct Plan;

struct PlanNode {
    uint64_t source = 0;  // handle of the graph's node
    Work work;
    bool enabled = true;
    std::vector<size_t> after;   // plan nodes it depends on
    std::vector<size_t> before;  // plan nodes that depend on it
    std::shared_ptr<Plan> child;
};

// Nodes in an order that respects the edges.
struct Plan {
    std::vector<PlanNode> nodes;
    bool branches = false;  // not a mere chain
    [[nodiscard]] PlanNode* find(uint64_t source);
    // A copy that shares nothing that updates change.
    [[nodiscard]] std::shared_ptr<Plan> copy() const;
};

class GraphExec final : public Object, public std::enable_shared_from_this<GraphExec> {
  public:
    using Handle = CUgraphExec;
    static constexpr Kind kind = Kind::graph_exec;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;

    // Makes and publishes one. Throws INVALID_VALUE.
    static std::shared_ptr<GraphExec> instantiate(const Graph& graph, uint64_t flags);
    ~GraphExec() override;

    unsigned id = 0;
    uint64_t flags = 0;

    void launch(const std::shared_ptr<Stream>& stream);
    // The plan's node for a graph's node, with the plan ready to be changed. Throws INVALID_VALUE.
    PlanNode& change(const GraphNode& node);
    [[nodiscard]] const PlanNode& at(const GraphNode& node) const;
    // Takes over the work of a graph of the same shape. On failure `failed` is the node to blame.
    CUgraphExecUpdateResult update(const Graph& graph, NodePtr* failed);

    // The same for the graph of one child node. Throws INVALID_VALUE, GRAPH_EXEC_UPDATE_FAILURE.
    void update_child(const GraphNode& node, const Graph& graph);

  private:
    std::shared_ptr<Plan> plan_;  // replaced, not changed, while launches are in flight
    std::atomic<int> in_flight_{0};
    MarkerPtr last_launch_;
    std::vector<Graph::Retained> retained_;
};

}  // namespace softgpu
