// Graphs.
#include "device/graph.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "device/capture.h"
#include "device/error.h"
#include "device/pool.h"

namespace softgpu {
namespace {

bool same(const CUgraphEdgeData& a, const CUgraphEdgeData& b) {
    return a.from_port == b.from_port && a.to_port == b.to_port && a.type == b.type;
}

// Is `target` reached from `start` along dependents?
bool reaches(const GraphNode* start, const GraphNode* target) {
    std::vector<const GraphNode*> todo{start};
    std::unordered_map<const GraphNode*, bool> seen;
    while (!todo.empty()) {
        const GraphNode* node = todo.back();
        todo.pop_back();
        if (node == target) return true;
        if (std::exchange(seen[node], true)) continue;
        todo.insert(todo.end(), node->dependents.begin(), node->dependents.end());
    }
    return false;
}

}  // namespace

std::recursive_mutex& graph_mutex() {
    static auto& mutex = *new std::recursive_mutex;
    return mutex;
}

void UserObject::release(int64_t count) {
    int64_t before = count_.load();
    do {
        check_value(before >= count, "the user object has fewer references");
    } while (!count_.compare_exchange_weak(before, before - count));
    if (before != count) return;
    withdraw<UserObject>(to_handle<CUuserObject>(handle_value()));
    if (destroy_) perform_host_function(destroy_, data_);
}

std::shared_ptr<Graph> Graph::create() {
    static std::atomic<unsigned> next{1};
    auto graph = std::make_shared<Graph>();
    graph->id = next.fetch_add(1);
    publish(graph);
    return graph;
}

Graph::~Graph() {
    for (const auto& node : nodes) {
        remove_object(node->handle_value());
        node->graph = nullptr;
        node->dependencies.clear();
        node->dependents.clear();
    }
    for (const auto& [object, count] : retained) object->release(count);
}

NodePtr Graph::add(Work work, const std::vector<GraphNode::Edge>& dependencies) {
    for (const auto& edge : dependencies) {
        check_value(edge.node && edge.node->graph == this, "a dependency is of another graph");
        const auto twice = std::count_if(dependencies.begin(), dependencies.end(), [&](const auto& other) {
            return other.node == edge.node && same(other.data, edge.data);
        });
        check_value(twice == 1, "a dependency is named twice");
    }
    auto node = std::make_shared<GraphNode>();
    node->graph = this;
    node->work = std::move(work);
    node->local_id = next_local_id_++;
    node->dependencies = dependencies;
    for (const auto& edge : dependencies) edge.node->dependents.push_back(node.get());
    publish(node);
    nodes.push_back(node);
    return node;
}

void Graph::remove(const NodePtr& node) {
    for (const auto& edge : node->dependencies) std::erase(edge.node->dependents, node.get());
    for (GraphNode* dependent : node->dependents) {
        std::erase_if(dependent->dependencies, [&](const auto& edge) { return edge.node == node; });
    }
    node->dependencies.clear();
    node->dependents.clear();
    node->graph = nullptr;
    if (const auto* child = std::get_if<ChildWork>(&node->work)) destroy_graph(child->graph);
    remove_object(node->handle_value());
    std::erase(nodes, node);
}

void Graph::add_edge(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData* data) {
    check_value(from->graph == this && to->graph == this, "the node is of another graph");
    const CUgraphEdgeData wanted = data ? *data : CUgraphEdgeData{};
    for (const auto& edge : to->dependencies) {
        check_value(edge.node != from || !same(edge.data, wanted), "the edge exists already");
    }
    check_value(!reaches(to.get(), from.get()), "the edge would make a cycle");
    to->dependencies.push_back({from, wanted});
    from->dependents.push_back(to.get());
}

void Graph::remove_edge(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData* data) {
    check_value(from->graph == this && to->graph == this, "the node is of another graph");
    const CUgraphEdgeData wanted = data ? *data : CUgraphEdgeData{};
    const auto found = std::find_if(to->dependencies.begin(), to->dependencies.end(),
                                    [&](const auto& edge) { return edge.node == from && same(edge.data, wanted); });
    check_value(found != to->dependencies.end(), "there is no such edge");
    to->dependencies.erase(found);
    from->dependents.erase(std::find(from->dependents.begin(), from->dependents.end(), to.get()));
}

std::vector<NodePtr> Graph::in_order() const {
    std::unordered_map<const GraphNode*, size_t> waiting;
    std::unordered_map<const GraphNode*, NodePtr> owner;
    std::vector<NodePtr> order;
    for (const auto& node : nodes) {
        waiting[node.get()] = node->dependencies.size();
        owner[node.get()] = node;
        if (node->dependencies.empty()) order.push_back(node);
    }
    for (size_t i = 0; i < order.size(); ++i) {
        for (GraphNode* dependent : order[i]->dependents) {
            if (--waiting[dependent] == 0) order.push_back(owner[dependent]);
        }
    }
    return order;
}

bool Graph::has_memory_nodes() const {
    return std::any_of(nodes.begin(), nodes.end(), [](const auto& node) {
        return std::holds_alternative<AllocWork>(node->work) || std::holds_alternative<FreeWork>(node->work);
    });
}

std::shared_ptr<Graph> Graph::clone() const {
    auto copy = create();
    std::unordered_map<const GraphNode*, NodePtr> twin;
    for (const auto& node : nodes) {
        Work work = node->work;
        if (auto* child = std::get_if<ChildWork>(&work)) {
            child->graph = child->graph->clone();
            child->graph->embedded = true;
        }
        auto made = copy->add(std::move(work), {});
        made->original = node->handle_value();
        twin[node.get()] = made;
    }
    for (const auto& node : nodes) {
        for (const auto& edge : node->dependencies) {
            twin[node.get()]->dependencies.push_back({twin[edge.node.get()], edge.data});
            twin[edge.node.get()]->dependents.push_back(twin[node.get()].get());
        }
    }
    for (const auto& [object, count] : retained) {
        object->retain(count);
        copy->retained.push_back({object, count});
    }
    return copy;
}

void destroy_graph(const std::shared_ptr<Graph>& graph) {
    for (const auto& node : graph->nodes) {
        if (const auto* child = std::get_if<ChildWork>(&node->work)) destroy_graph(child->graph);
        remove_object(node->handle_value());
        node->graph = nullptr;
    }
    remove_object(graph->handle_value());
}

// In the memory map from the beginning, so that calls made between a launch and its turn may name it; kernels reach
// it only while it is allocated.
GraphMemory::GraphMemory(Device& home, uint64_t size, uint64_t accessible_by)
    : device(home), devices(accessible_by | uint64_t{1} << home.ordinal()), piece(home.graph_pool()->allocate(size)) {
    piece->readable_by = 0;
    piece->writable_by = 0;
    memory_map().changed();
}

GraphMemory::~GraphMemory() {
    memory_map().erase(piece->begin);
    device.graph_pool()->give_back(*piece);
}

void GraphMemory::allocate() {
    if (allocated()) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the graph's memory from its last launch was not freed");
    }
    piece->freeing = false;
    piece->keeper = shared_from_this();
    piece->readable_by = devices;
    piece->writable_by = devices;
}

void GraphMemory::free() {
    device.graph_pool()->finish_free(piece);
}

}  // namespace softgpu
