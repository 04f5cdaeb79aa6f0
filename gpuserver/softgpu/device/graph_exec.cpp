// Executable graphs: planning, launching, updating.
#include "device/graph_exec.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "device/error.h"
#include "device/pool.h"

namespace softgpu {
namespace {

constexpr size_t most_lanes = 4;  // branches of one launch that run at the same time

std::shared_ptr<Plan> make_plan(const Graph& graph) {
    auto plan = std::make_shared<Plan>();
    std::unordered_map<const GraphNode*, size_t> place;
    for (const auto& node : graph.in_order()) {
        PlanNode made;
        made.source = node->handle_value();
        made.work = node->work;
        if (const auto* child = std::get_if<ChildWork>(&node->work)) made.child = make_plan(*child->graph);
        const size_t index = plan->nodes.size();
        place[node.get()] = index;
        for (const auto& edge : node->dependencies) {
            const size_t earlier = place.at(edge.node.get());
            made.after.push_back(earlier);
            plan->nodes[earlier].before.push_back(index);
        }
        plan->nodes.push_back(std::move(made));
    }
    size_t roots = 0;
    for (const PlanNode& node : plan->nodes) {
        roots += node.after.empty();
        plan->branches = plan->branches || node.before.size() > 1 || roots > 1;
    }
    return plan;
}

// Markers of one launch: what its event nodes record and wait for.
struct Recordings {
    std::unordered_map<const PlanNode*, MarkerPtr> markers;
    std::vector<std::pair<std::shared_ptr<Event>, MarkerPtr>> unfinished;
};

void collect(const Plan& plan, bool waits, Recordings& recordings) {
    for (const PlanNode& node : plan.nodes) {
        if (!node.enabled) continue;
        if (node.child) collect(*node.child, waits, recordings);
        if (const auto* wait = std::get_if<WaitWork>(&node.work); wait && waits) {
            recordings.markers[&node] = wait->event->latest();
        }
        if (const auto* record = std::get_if<RecordWork>(&node.work); record && !waits) {
            auto marker = record->event->begin_recording();
            recordings.markers[&node] = marker;
            recordings.unfinished.emplace_back(record->event, marker);
        }
    }
}

std::shared_ptr<Context> context_of(const Work& work) {
    CUcontext handle = nullptr;
    if (const auto* kernel = std::get_if<KernelWork>(&work)) return kernel->function->context.lock();
    if (const auto* copy = std::get_if<CopyWork>(&work)) handle = copy->context;
    if (const auto* set = std::get_if<SetWork>(&work)) handle = set->context;
    if (const auto* batch = std::get_if<BatchWork>(&work)) handle = batch->context;
    return handle ? find<Context>(handle) : nullptr;
}

class PlanRun {
  public:
    PlanRun(const Plan& plan, Context& context, const Recordings& recordings)
        : plan_(plan), context_(context), recordings_(recordings), waiting_(plan.nodes.size()) {}

    void run() {
        if (!plan_.branches) {
            for (const PlanNode& node : plan_.nodes) perform(node);
            return;
        }
        for (size_t i = 0; i < plan_.nodes.size(); ++i) {
            waiting_[i] = plan_.nodes[i].after.size();
            if (!waiting_[i]) ready_.push_back(i);
        }
        std::vector<std::thread> helpers;
        for (size_t i = 1; i < std::min(most_lanes, plan_.nodes.size()); ++i) {
            try {
                helpers.emplace_back([this] { work(); });
            } catch (const std::system_error&) {
                break;  // fewer lanes do as well
            }
        }
        work();
        for (auto& helper : helpers) helper.join();
    }

  private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [&] { return !ready_.empty() || done_ == plan_.nodes.size(); });
            if (ready_.empty()) return;
            const size_t index = ready_.front();
            ready_.pop_front();
            lock.unlock();
            perform(plan_.nodes[index]);
            lock.lock();
            ++done_;
            for (const size_t next : plan_.nodes[index].before) {
                if (--waiting_[next] == 0) ready_.push_back(next);
            }
            changed_.notify_all();
        }
    }

    void perform(const PlanNode& node) {
        const auto own = context_of(node.work);
        Context& context = own ? *own : context_;
        try {
            if (node.enabled && context_.failure() == CUDA_SUCCESS) perform_node(node, context);
        } catch (const DriverError& error) {
            context.fail(error.code, error.what());
            context_.fail(error.code, error.what());
        } catch (const std::exception& error) {
            context_.fail(CUDA_ERROR_LAUNCH_FAILED, error.what());
        }
    }

    void perform_node(const PlanNode& node, Context& context) {
        if (const auto* kernel = std::get_if<KernelWork>(&node.work)) return perform_kernel(*kernel);
        if (const auto* copy = std::get_if<CopyWork>(&node.work)) return perform_copy(copy->copy);
        if (const auto* set = std::get_if<SetWork>(&node.work)) return perform_set(set->set);
        if (const auto* host = std::get_if<HostWork>(&node.work)) {
            return perform_host_function(host->function, host->data);
        }
        if (const auto* batch = std::get_if<BatchWork>(&node.work)) return perform_batch(*batch, context);
        if (const auto* made = std::get_if<AllocWork>(&node.work)) return made->memory->allocate();
        if (const auto* freed = std::get_if<FreeWork>(&node.work)) {
            if (auto allocation = memory_map().find(freed->address)) return allocation->pool->finish_free(allocation);
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "a graph frees memory that is not allocated");
        }
        if (const auto* record = std::get_if<RecordWork>(&node.work)) {
            return record->event->finish_recording(recordings_.markers.at(&node));
        }
        if (std::holds_alternative<WaitWork>(node.work)) {
            if (const auto& marker = recordings_.markers.at(&node)) marker->wait();
            return;
        }
        if (node.child) PlanRun(*node.child, context_, recordings_).run();
    }

    const Plan& plan_;
    Context& context_;
    const Recordings& recordings_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<size_t> ready_;
    std::vector<size_t> waiting_;
    size_t done_ = 0;
};

void free_unfreed(const Plan& plan) {
    for (const PlanNode& node : plan.nodes) {
        if (node.child) free_unfreed(*node.child);
        if (const auto* made = std::get_if<AllocWork>(&node.work); made && made->memory->allocated()) {
            made->memory->free();
        }
    }
}

bool any_unfreed(const Plan& plan) {
    return std::any_of(plan.nodes.begin(), plan.nodes.end(), [](const PlanNode& node) {
        const auto* made = std::get_if<AllocWork>(&node.work);
        return (made && made->memory->allocated()) || (node.child && any_unfreed(*node.child));
    });
}

// Takes over the work of `graph` into `plan`, node by node in the order of planning.
CUgraphExecUpdateResult update_plan(Plan& plan, const Graph& graph, NodePtr* failed) {
    const auto fresh = make_plan(graph);
    const auto nodes = graph.in_order();
    if (fresh->nodes.size() != plan.nodes.size()) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (size_t i = 0; i < plan.nodes.size(); ++i) {
        PlanNode& old = plan.nodes[i];
        PlanNode& now = fresh->nodes[i];
        *failed = nodes[i];
        if (type_of(old.work) != type_of(now.work)) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
        if (old.after != now.after) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        if (std::holds_alternative<AllocWork>(old.work) || std::holds_alternative<FreeWork>(old.work)) {
            return CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
        }
        if (const auto* kernel = std::get_if<KernelWork>(&old.work)) {
            const auto& other = std::get<KernelWork>(now.work);
            if (kernel->context != other.context) return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
            if (kernel->options.cooperative != other.options.cooperative) {
                return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
            }
        }
        if (const auto* copy = std::get_if<CopyWork>(&old.work)) {
            if (copy->context != std::get<CopyWork>(now.work).context) {
                return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
            }
        }
        if (old.child) {
            const auto result = update_plan(*old.child, *std::get<ChildWork>(nodes[i]->work).graph, failed);
            if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return result;
        } else {
            old.work = std::move(now.work);
        }
    }
    *failed = nullptr;
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

}  // namespace

PlanNode* Plan::find(uint64_t source) {
    for (PlanNode& node : nodes) {
        if (node.source == source) return &node;
        if (!node.child) continue;
        if (PlanNode* found = node.child->find(source)) return found;
    }
    return nullptr;
}

std::shared_ptr<Plan> Plan::copy() const {
    auto made = std::make_shared<Plan>(*this);
    for (PlanNode& node : made->nodes) {
        if (node.child) node.child = node.child->copy();
    }
    return made;
}

std::shared_ptr<GraphExec> GraphExec::instantiate(const Graph& graph, uint64_t flags) {
    static std::atomic<unsigned> next{1};
    auto exec = std::make_shared<GraphExec>();
    exec->id = next.fetch_add(1);
    exec->flags = flags;
    exec->plan_ = make_plan(graph);
    for (const auto& [object, count] : graph.retained) {
        object->retain(count);
        exec->retained_.push_back({object, count});
    }
    publish(exec);
    return exec;
}

GraphExec::~GraphExec() {
    for (const auto& [object, count] : retained_) object->release(count);
}

void GraphExec::launch(const std::shared_ptr<Stream>& stream) {
    const bool free_first = flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    // A cuMemFreeAsync issued before this launch may still be on its way: only what is there after it counts.
    if (!free_first && any_unfreed(*plan_) && (!last_launch_ || last_launch_->done())) stream->run({[] {}});
    if (!free_first && any_unfreed(*plan_) && (!last_launch_ || last_launch_->done())) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "memory of the graph's last launch was not freed");
    }
    auto recordings = std::make_shared<Recordings>();
    collect(*plan_, true, *recordings);
    collect(*plan_, false, *recordings);
    auto before = last_launch_;
    auto after = std::make_shared<Marker>();
    in_flight_.fetch_add(1);
    auto finish = [self = shared_from_this(), recordings, after] {
        for (const auto& [event, marker] : recordings->unfinished) {
            if (!marker->done()) event->finish_recording(marker);
        }
        self->in_flight_.fetch_sub(1, std::memory_order_release);
        after->complete();
    };
    Operation operation;
    operation.even_failed = true;
    operation.on_worker = true;
    operation.run = [plan = plan_, recordings, before, finish, free_first, context = &stream->context()] {
        if (before) before->wait();
        if (free_first) free_unfreed(*plan);
        PlanRun(*plan, *context, *recordings).run();
        finish();
    };
    try {
        stream->enqueue(std::move(operation));
    } catch (...) {
        finish();
        throw;
    }
    last_launch_ = after;
}

PlanNode& GraphExec::change(const GraphNode& node) {
    if (in_flight_.load(std::memory_order_acquire)) plan_ = plan_->copy();
    PlanNode* found = plan_->find(node.handle_value());
    check_value(found, "the node is not of the graph that was instantiated");
    return *found;
}

const PlanNode& GraphExec::at(const GraphNode& node) const {
    const PlanNode* found = plan_->find(node.handle_value());
    check_value(found, "the node is not of the graph that was instantiated");
    return *found;
}

CUgraphExecUpdateResult GraphExec::update(const Graph& graph, NodePtr* failed) {
    auto changed = plan_->copy();
    *failed = nullptr;
    const auto result = update_plan(*changed, graph, failed);
    if (result == CU_GRAPH_EXEC_UPDATE_SUCCESS) plan_ = changed;
    return result;
}

void GraphExec::update_child(const GraphNode& node, const Graph& graph) {
    PlanNode& planned = change(node);
    check_value(planned.child != nullptr, "the node holds no child graph");
    auto changed = planned.child->copy();
    NodePtr failed;
    if (update_plan(*changed, graph, &failed) != CU_GRAPH_EXEC_UPDATE_SUCCESS) {
        throw DriverError(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the child graph is of another shape");
    }
    planned.child = changed;
}

}  // namespace softgpu
