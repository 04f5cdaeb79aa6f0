// Launches: blocks handed to the calling thread and to the process's helper threads.
#include "engine/grid.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

namespace softgpu {

namespace {

constexpr uint64_t recursion_stack_bytes = 64 * 1024;

std::atomic<uint64_t> grid_numbers{0};

// Blocks and cached ranges outlive a launch: the next one on this thread finds its memory already there.
struct ThreadState {
    Block block;
    RangeCache ranges;
};
ThreadState& thread_state() {
    thread_local ThreadState state;
    return state;
}

}  // namespace

Grid::Grid(const Launch& l, const Code& kernel_code, const std::byte* constants)
    : launch(l),
      code(kernel_code),
      constants_end(constants),
      parameters(l.parameters),
      block_count(l.grid.volume()),
      number(++grid_numbers),
      started(std::chrono::steady_clock::now()) {
    shared_bytes = code.dynamic_shared_start + l.dynamic_shared_bytes;
    local_bytes = code.local_bytes;
    if (code.unbounded_stack) local_bytes += std::max<uint64_t>(l.stack_bytes, recursion_stack_bytes);
    local_bytes = (local_bytes + 63) / 64 * 64;
    // An odd number of cache lines, so that the lanes' windows do not fall into the same cache sets.
    local_stride = (local_bytes / 64 | 1) * 64;
}

void Grid::fail(Fault fault) {
    std::lock_guard lock(mutex_);
    if (fault_.kind == Fault::Kind::none) fault_ = std::move(fault);
    stop_.store(true);
}

Fault Grid::fault() {
    std::lock_guard lock(mutex_);
    return fault_;
}

bool Grid::check_cancelled() {
    if (launch.cancel && launch.cancel->load(std::memory_order_relaxed)) {
        fail({Fault::Kind::cancelled, "cancelled"});
        return true;
    }
    return stopped();
}

bool Grid::more_work() const {
    return !stopped() && next_.load(std::memory_order_relaxed) < block_count;
}

void Grid::work() {
    ThreadState& state = thread_state();
    // Another launch may be another context: nothing of the last one's ranges holds here.
    state.ranges = {};
    state.ranges.space = launch.services.memory;
    state.ranges.refresh();
    try {
        if (launch.cooperative) {
            work_cooperatively();
            return;
        }
        for (;;) {
            const uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= block_count || check_cancelled()) return;
            state.block.start(*this, index, state.ranges);
            for (uint32_t turns = 0; !state.block.advance(state.ranges); ++turns) {
                if (check_cancelled()) return;
                if (state.block.stalled()) throw KernelFault{Fault::Kind::trap, code.name + ": deadlock at a barrier"};
                if (turns > 8) sched_yield();  // it may be waiting for what another thread does
            }
        }
    } catch (KernelFault& f) {
        fail({f.kind, std::move(f.message)});
    } catch (const std::bad_alloc&) {
        fail({Fault::Kind::stack_overflow, code.name + ": no host memory for the kernel's registers or stack"});
    } catch (const std::exception& error) {  // of a service of the driver
        fail({Fault::Kind::trap, code.name + ": " + error.what()});
    }
}

// All blocks are resident: every one gets turns, whatever their number.
void Grid::work_cooperatively() {
    RangeCache& ranges = thread_state().ranges;
    uint32_t fruitless = 0;
    for (;;) {
        if (check_cancelled()) return;
        std::unique_ptr<Block> block;
        const uint64_t index = next_.load() < block_count ? next_.fetch_add(1) : block_count;
        if (index < block_count) {
            block = std::make_unique<Block>();
            block->start(*this, index, ranges);
        } else {
            std::lock_guard lock(mutex_);
            if (finished_ == block_count) return;
            if (!resident_.empty()) {
                block = std::move(resident_.front());
                resident_.pop_front();
            }
        }
        if (!block) {
            sched_yield();
            continue;
        }
        const bool ended = block->advance(ranges);
        if (block->stalled()) throw KernelFault{Fault::Kind::trap, code.name + ": deadlock at a barrier"};
        std::lock_guard lock(mutex_);
        if (ended)
            ++finished_;
        else
            resident_.push_back(std::move(block));
        if (++fruitless % 64 == 0) sched_yield();
    }
}

Helpers& Helpers::instance() {
    // Never destroyed: its threads may still wait when the process ends.
    static Helpers* helpers = new Helpers;
    return *helpers;
}

void Helpers::start_threads() {
    if (process_ == getpid()) return;
    process_ = getpid();  // a forked child has none of its parent's threads
    entries_.clear();
    waiting_ = 0;
    const unsigned count = std::max(1U, std::thread::hardware_concurrency()) - 1;
    // Signals are for the program's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < count; ++i) std::thread([this] { serve(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Helpers::add(Grid& grid) {
    std::lock_guard lock(mutex_);
    start_threads();
    entries_.push_back({&grid, 0});
    const uint64_t useful = std::min<uint64_t>(waiting_, grid.block_count - 1);
    for (uint64_t i = 0; i < useful; ++i) wake_.notify_one();
}

void Helpers::remove(Grid& grid) {
    std::unique_lock lock(mutex_);
    for (;;) {
        auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.grid == &grid; });
        if (found == entries_.end()) return;
        if (found->helpers == 0) {
            entries_.erase(found);
            return;
        }
        idle_.wait(lock);
    }
}

void Helpers::serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
        auto found = std::find_if(entries_.begin(), entries_.end(), [](const Entry& e) { return e.grid->more_work(); });
        if (found == entries_.end()) {
            ++waiting_;
            wake_.wait(lock);
            --waiting_;
            continue;
        }
        ++found->helpers;
        Grid* grid = found->grid;
        // To the end of the line: the next helper looks at another grid first.
        Entry entry = *found;
        entries_.erase(found);
        entries_.push_back(entry);
        lock.unlock();
        grid->work();
        lock.lock();
        for (Entry& e : entries_)
            if (e.grid == grid) --e.helpers;
        idle_.notify_all();
    }
}

Fault run_grid(const Launch& launch) {
    const auto& image = static_cast<const LoadedImage&>(*launch.program);
    try {
        const Code& code = image.compiled().code(launch.kernel);
        Grid grid(launch, code, image.constants_end(launch.kernel));
        if (grid.block_count == 0 || launch.block.volume() == 0) return {};
        const bool helped = grid.block_count > 1 && std::thread::hardware_concurrency() > 1;
        if (helped) Helpers::instance().add(grid);
        grid.work();
        if (helped) Helpers::instance().remove(grid);
        return grid.fault();
    } catch (const CompileError& error) {
        return {Fault::Kind::illegal_instruction, error.what()};
    } catch (const std::bad_alloc&) {
        return {Fault::Kind::stack_overflow, "no host memory for the launch"};
    }
}

}  // namespace softgpu
