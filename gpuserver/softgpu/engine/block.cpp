// Thread blocks: preparing one, giving its warps turns, barriers.
#include "engine/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "engine/grid.h"

namespace softgpu {

Block::~Block() {
    if (local_) munmap(local_, local_mapped_);
}

// Local memory is mapped, not allocated: most of a deep stack is never touched.
void Block::map_local(uint64_t bytes) {
    if (bytes <= local_mapped_) return;
    if (local_) munmap(local_, local_mapped_);
    local_ = nullptr;
    local_mapped_ = 0;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    local_ = static_cast<std::byte*>(memory);
    local_mapped_ = bytes;
}

void Block::shape_warps(const Grid& grid) {
    const Dim3& shape = grid.launch.block;
    if (shape.x == shape_.x && shape.y == shape_.y && shape.z == shape_.z) return;
    shape_ = shape;
    threads_ = static_cast<uint32_t>(shape_.volume());
    warps_.resize((threads_ + lanes - 1) / lanes);
    for (uint32_t w = 0; w < warps_.size(); ++w) {
        Warp& warp = warps_[w];
        warp.index = w;
        const uint32_t present = std::min<uint32_t>(lanes, threads_ - w * lanes);
        warp.existing = present == lanes ? all_lanes : (1U << present) - 1;
        for (uint32_t l = 0; l < lanes; ++l) {
            const uint32_t thread = w * lanes + l;
            warp.tid[0][l] = thread % shape_.x;
            warp.tid[1][l] = thread / shape_.x % shape_.y;
            warp.tid[2][l] = thread / shape_.x / shape_.y;
        }
    }
}

void Block::start(Grid& grid, uint64_t index, RangeCache& ranges) {
    const Launch& launch = grid.launch;
    if (grid_number_ != grid.number) {
        // The first block of this launch here.
        grid_number_ = grid.number;
        grid_ = &grid;
        frames_.clear();
        free_frames_.assign(grid.code.functions.size(), {});
        arena_.reset();
        shape_warps(grid);
        shared_ = arena_.take(grid.shared_bytes);
        if (grid.local_bytes) map_local(grid.local_stride * lanes * warps_.size());
        context_ = Context{};
        context_.consts = grid.constants_end;
        context_.shared = shared_;
        context_.shared_bytes = grid.shared_bytes;
        context_.local_stride = grid.local_stride;
        context_.local_bytes = grid.local_bytes;
        context_.local_begin = local_;
        context_.local_end = grid.local_bytes ? local_ + grid.local_stride * lanes * warps_.size() : local_;
        context_.parameters = grid.parameters.data();
        context_.parameter_bytes = grid.parameters.size();
        context_.code = &grid.code;
        context_.block = this;
        context_.grid = &grid;
    }
    context_.ranges = &ranges;
    index_.x = static_cast<uint32_t>(index % launch.grid.x);
    index_.y = static_cast<uint32_t>(index / launch.grid.x % launch.grid.y);
    index_.z = static_cast<uint32_t>(index / launch.grid.x / launch.grid.y);
    // Cooperative groups keep barriers in the reserved part and expect zeros there.
    std::memset(shared_, 0, reserved_shared_bytes);
    barriers_.fill({});
    idle_turns_ = 0;
    stalled_ = false;
    for (Warp& warp : warps_) {
        // Frames that a stopped block left behind.
        warp.exited = 0;
        warp.carry = 0;
        warp.clock = 0;
        warp.branches = 0;
        warp.rotate = false;
        Frame* frame = enter(0, nullptr);
        frame->live = warp.existing;
        frame->local_base = 0;
        frame->local_end = grid.code.functions[0].local_bytes;
        warp.count = 1;
        warp.groups[0] = Group{};
        warp.groups[0].pc = grid.code.functions[0].entry;
        warp.groups[0].mask = warp.existing;
        warp.groups[0].frame = frame;
    }
}

Frame* Block::enter(uint32_t function, Frame* parent) {
    Frame* frame = nullptr;
    std::vector<Frame*>& free = free_frames_[function];
    if (!free.empty()) {
        frame = free.back();
        free.pop_back();
    } else {
        frames_.push_back(std::make_unique<Frame>());
        frame = frames_.back().get();
        frame->regs = arena_.take(grid_->code.functions[function].register_bytes + 64);
        frame->function = function;
    }
    frame->parent = parent;
    frame->site = nullptr;
    frame->depth = parent ? parent->depth + 1 : 0;
    return frame;
}

void Block::leave(Frame* frame) { free_frames_[frame->function].push_back(frame); }

bool Block::advance(RangeCache& ranges) {
    context_.ranges = &ranges;
    ranges.refresh();
    bool any_turn = false, all_finished = true;
    for (Warp& warp : warps_) {
        if (warp.finished()) continue;
        all_finished = false;
        if (warp.count && !warp.ready()) {
            // Waits at a barrier, or for lanes that wait at one.
            bool only_barrier = true;
            for (uint32_t g = 0; g < warp.count; ++g)
                only_barrier &= warp.groups[g].state == Group::State::at_barrier;
            if (only_barrier) continue;
        }
        context_.local = context_.local_begin + uint64_t{warp.index} * lanes * context_.local_stride;
        const Turn turn = run_warp(context_, warp, idle_turns_ > 0);
        any_turn |= turn != Turn::waiting;
    }
    if (all_finished) return true;
    // No warp could run: with one more round warp-wide instructions give up waiting; then it is a deadlock.
    idle_turns_ = any_turn ? 0 : idle_turns_ + 1;
    if (idle_turns_ > 2) {
        bool runnable = false;
        for (const Warp& warp : warps_) runnable |= !warp.finished() && warp.ready();
        if (!runnable) stalled_ = true;
    }
    return false;
}

uint32_t Block::live_threads() const {
    uint32_t count = 0;
    for (const Warp& warp : warps_) count += static_cast<uint32_t>(__builtin_popcount(warp.live()));
    return count;
}

bool Block::arrive(Warp& warp, uint32_t number, uint32_t expected, uint32_t mask, bool reduce, uint32_t votes) {
    Barrier& barrier = barriers_[number];
    barrier.expected = expected;
    // Thread counts are multiples of the warp size: a warp that comes as a whole counts as 32.
    const bool whole = expected != 0 && mask == warp.live();
    barrier.arrived += whole ? lanes : static_cast<uint32_t>(__builtin_popcount(mask));
    if (reduce) {
        barrier.count += static_cast<uint32_t>(__builtin_popcount(votes & mask));
        barrier.voters += static_cast<uint32_t>(__builtin_popcount(mask));
    }
    return complete(number);
}

bool Block::complete(uint32_t number) {
    Barrier& barrier = barriers_[number];
    if (barrier.arrived == 0) return false;
    if (barrier.arrived < (barrier.expected ? barrier.expected : live_threads())) return false;
    const Inst* code = grid_->code.code.data();
    for (Warp& warp : warps_) {
        for (uint32_t g = 0; g < warp.count; ++g) {
            Group& group = warp.groups[g];
            if (group.state != Group::State::at_barrier || group.barrier != number) continue;
            const Inst& i = code[group.pc];
            std::byte* regs = group.frame->regs;
            switch (static_cast<BarrierKind>(i.kind)) {
                case BarrierKind::red_popc:
                    for_lanes(group.mask,
                              [&](uint32_t l) { reinterpret_cast<uint32_t*>(regs + i.d)[l] = barrier.count; });
                    break;
                case BarrierKind::red_and:
                case BarrierKind::red_or: {
                    const bool all = barrier.count == barrier.voters;
                    const bool result = i.kind == static_cast<uint8_t>(BarrierKind::red_and) ? all : barrier.count > 0;
                    auto* p = reinterpret_cast<uint32_t*>(regs + i.d);
                    *p = result ? *p | group.mask : *p & ~group.mask;
                    break;
                }
                default:
                    break;
            }
            group.state = Group::State::ready;
            ++group.pc;
        }
    }
    barrier = {};
    return true;
}

void Block::lanes_ended() {
    for (uint32_t number = 0; number < barriers_.size(); ++number)
        if (barriers_[number].arrived != 0 && barriers_[number].expected == 0) complete(number);
}

}  // namespace softgpu
