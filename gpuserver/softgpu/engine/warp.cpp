// The warp loop: choosing a group of lanes, executing instructions, branches, calls and waits.
#include "engine/warp.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "engine/block.h"
#include "engine/grid.h"

namespace softgpu {

namespace {

constexpr int64_t branches_per_turn = 1024;
constexpr uint32_t patience = 256;  // branches that one group may take while others are ready

// Chooses a group and loads it; see warp.h for the order.
class Scheduler {
  public:
    Scheduler(Context& c, Warp& w) : context_(c), warp_(w) {}

    // False when no group can run.
    bool choose(bool oldest) {
        merge();
        Group* best = nullptr;
        for (uint32_t g = 0; g < warp_.count; ++g) {
            Group& group = warp_.groups[g];
            if (group.state != Group::State::ready) continue;
            if (!best) {
                best = &group;
            } else if (oldest) {
                if (group.last_run < best->last_run) best = &group;
            } else if (group.frame->depth != best->frame->depth) {
                if (group.frame->depth > best->frame->depth) best = &group;
            } else if (group.pc < best->pc) {
                best = &group;
            }
        }
        if (!best) return false;
        best->last_run = ++warp_.clock;
        current = best;
        context_.regs = best->frame->regs;
        context_.frame_local = best->frame->local_base;
        context_.frame = best->frame;
        limit = UINT32_MAX;
        waiting_behind = false;
        if (!oldest) {
            for (uint32_t g = 0; g < warp_.count; ++g) {
                const Group& other = warp_.groups[g];
                if (&other == best || other.frame != best->frame || other.state == Group::State::at_barrier) continue;
                if (other.pc > best->pc)
                    limit = std::min(limit, other.pc);
                else
                    waiting_behind = true;
            }
        }
        return true;
    }

    // When all groups wait at warp-wide instructions: lets some of them go on. False when none can.
    bool release(bool desperate) {
        const Inst* code = context_.code->code.data();
        bool barrier = false, released = false;
        for (uint32_t g = 0; g < warp_.count; ++g) barrier |= warp_.groups[g].state == Group::State::at_barrier;
        // bar.warp.sync at different places: all the lanes waited for have come.
        for (uint32_t g = 0; g < warp_.count; ++g) {
            const uint32_t need = warp_.groups[g].need & warp_.live();
            if (!waits_at_warp_barrier(g, code)) continue;
            uint32_t here = 0;
            for (uint32_t o = 0; o < warp_.count; ++o)
                if (waits_at_warp_barrier(o, code)) here |= warp_.groups[o].mask;
            if ((need & ~here) != 0) continue;
            for (uint32_t o = 0; o < warp_.count; ++o) {
                Group& other = warp_.groups[o];
                if (!waits_at_warp_barrier(o, code) || (other.mask & need) == 0) continue;
                other.state = Group::State::ready;
                ++other.pc;
                released = true;
            }
            if (released) return true;
        }
        if (barrier && !desperate) return false;
        for (uint32_t g = 0; g < warp_.count; ++g) {
            Group& group = warp_.groups[g];
            if (group.state != Group::State::at_warp_sync) continue;
            group.state = Group::State::ready;
            group.forced = true;
            return true;
        }
        return false;
    }

    // Lanes of the current group that go another way become a group.
    void split(uint32_t mask, uint32_t pc) {
        current->mask &= ~mask;
        const auto index = static_cast<size_t>(current - warp_.groups.data());
        Group& other = warp_.groups[warp_.count++];
        other = Group{};
        other.mask = mask;
        other.pc = pc;
        other.frame = warp_.groups[index].frame;
        other.last_run = warp_.clock;
    }

    void drop_current() {
        *current = warp_.groups[--warp_.count];
        current = nullptr;
    }

    Group* current = nullptr;
    uint32_t limit = UINT32_MAX;  // first instruction ahead at which another group stands
    bool waiting_behind = false;  // another group waits at an earlier instruction

  private:
    [[nodiscard]] bool waits_at_warp_barrier(uint32_t g, const Inst* code) const {
        const Group& group = warp_.groups[g];
        return group.state == Group::State::at_warp_sync && code[group.pc].flow == Flow::warp_barrier;
    }

    // Groups that stand at the same place become one again.
    void merge() {
        for (uint32_t g = 0; g < warp_.count; ++g) {
            Group& group = warp_.groups[g];
            if (group.state == Group::State::at_barrier) continue;
            for (uint32_t o = g + 1; o < warp_.count;) {
                Group& other = warp_.groups[o];
                if (other.pc != group.pc || other.frame != group.frame || other.state == Group::State::at_barrier) {
                    ++o;
                    continue;
                }
                group.mask |= other.mask;
                group.state = Group::State::ready;
                group.forced = false;
                group.last_run = std::min(group.last_run, other.last_run);
                other = warp_.groups[--warp_.count];
            }
        }
    }

    Context& context_;
    Warp& warp_;
};

class Runner {
  public:
    Runner(Context& c, Warp& w) : c_(c), w_(w), s_(c, w) {}

    Turn run(bool desperate) {
        int64_t left = branches_per_turn;
        for (;;) {
            while (!s_.choose(w_.rotate)) {
                if (w_.finished()) return Turn::finished;
                if (!s_.release(desperate)) return Turn::waiting;
                desperate = false;
            }
            if (run_group(left)) {
                // Out of patience: the oldest group next, after it the usual order again.
                w_.rotate = !w_.rotate;
                w_.branches = 0;
            } else if (w_.rotate && left > 0) {
                w_.rotate = false;
            }
            if (left <= 0) return w_.finished() ? Turn::finished : Turn::used_up;
        }
    }

  private:
    // Runs the chosen group until groups must be looked at again. Returns whether it used up its patience.
    bool run_group(int64_t& left) {
        const Inst* const code = c_.code->code.data();
        Group* g = s_.current;
        uint32_t pc = g->pc;
        uint32_t mask = g->mask;
        const uint32_t limit = s_.limit;
        while (pc < limit) {
            const Inst& i = code[pc];
            uint32_t m = mask;
            if (i.guard != nothing) {
                const uint32_t p = predicate(c_, i.guard);
                m &= i.guard_negated ? ~p : p;
                if (m == 0) {
                    ++pc;
                    continue;
                }
            }
            switch (i.flow) {
                case Flow::next:
                    i.run(c_, i, m);
                    ++pc;
                    break;
                case Flow::branch:
                    if (m == mask) {
                        if (i.target <= pc && s_.waiting_behind) {
                            g->pc = i.target;
                            --left;
                            return ++w_.branches > patience;
                        }
                        pc = i.target;
                    } else {
                        g->pc = pc;
                        s_.split(m, i.target);
                        g->pc = pc + 1;
                        return false;
                    }
                    --left;
                    if (w_.count > 1 && ++w_.branches > patience) {
                        g->pc = pc;
                        return true;
                    }
                    if (left <= 0) {
                        g->pc = pc;
                        return false;
                    }
                    break;
                case Flow::branch_table: {
                    const std::vector<uint32_t>& table = c_.code->tables[i.target];
                    const uint32_t* index = in<uint32_t>(c_, i.a);
                    g->pc = pc;
                    keep(g, m, mask, pc + 1);
                    for (uint32_t rest = m; rest;) {
                        const auto lane = static_cast<uint32_t>(__builtin_ctz(rest));
                        if (index[lane] >= table.size())
                            fault(c_, i, Fault::Kind::invalid_pc, lane, "brx.idx: index out of range");
                        uint32_t same = 0;
                        for_lanes(rest, [&](uint32_t l) { same |= index[l] == index[lane] ? lane_bit[l] : 0; });
                        rest &= ~same;
                        if (rest == 0)
                            g->pc = table[index[lane]];
                        else
                            s_.split(same, table[index[lane]]);
                    }
                    --left;
                    return false;
                }
                case Flow::call:
                    g->pc = pc;
                    keep(g, m, mask, pc + 1);
                    call(i, c_.code->calls[i.target], c_.code->calls[i.target].function, m);
                    --left;
                    return false;
                case Flow::call_indirect:
                    g->pc = pc;
                    keep(g, m, mask, pc + 1);
                    call_through_pointer(i, m);
                    --left;
                    return false;
                case Flow::ret:
                    g->pc = pc;
                    keep(g, m, mask, pc + 1);
                    if (g->frame->parent)
                        return_from(g, m);
                    else
                        end(m);
                    return false;
                case Flow::exit:
                    g->pc = pc;
                    keep(g, m, mask, pc + 1);
                    end(m);
                    return false;
                case Flow::barrier: {
                    g->pc = pc;
                    if (arrive(i, g, m, mask)) return false;
                    ++pc;
                    break;
                }
                case Flow::warp_barrier: {
                    const uint32_t need = needed(in<uint32_t>(c_, i.a), m, mask);
                    if (w_.count > 1 && (need & ~m) != 0 && !g->forced) {
                        wait_for_lanes(g, pc, need);
                        return false;
                    }
                    g->forced = false;
                    ++pc;
                    break;
                }
                case Flow::collective: {
                    const uint32_t need = needed(in<uint32_t>(c_, c_.code->extra[i.extra]), m, mask);
                    if (w_.count > 1 && (need & ~m) != 0 && !g->forced) {
                        wait_for_lanes(g, pc, need);
                        return false;
                    }
                    g->forced = false;
                    i.run(c_, i, m);
                    ++pc;
                    break;
                }
                case Flow::sleep:
                    i.run(c_, i, m);
                    g->pc = pc + 1;
                    left = 0;
                    return true;
            }
        }
        g->pc = pc;
        return false;
    }

    // Lanes that a guard keeps from an instruction go on behind it as a group.
    void keep(Group* g, uint32_t m, uint32_t mask, uint32_t pc) {
        if (m != mask) s_.split(mask & ~m, pc);
        g->mask = m;
    }

    // The live lanes of a membermask; a guard's other lanes of this group will not come.
    [[nodiscard]] uint32_t needed(const uint32_t* membermask, uint32_t m, uint32_t mask) const {
        return membermask[__builtin_ctz(m)] & w_.live() & ~(mask & ~m);
    }

    static void wait_for_lanes(Group* g, uint32_t pc, uint32_t need) {
        g->pc = pc;
        g->state = Group::State::at_warp_sync;
        g->need = need;
    }

    // True when the groups must be looked at again.
    bool arrive(const Inst& i, Group* g, uint32_t m, uint32_t mask) {
        const auto lane = static_cast<uint32_t>(__builtin_ctz(m));
        const uint32_t number = in<uint32_t>(c_, i.a)[lane];
        if (number > cluster_barrier) fault(c_, i, Fault::Kind::illegal_instruction, lane, "barrier number over 15");
        const uint32_t expected = i.b == nothing ? 0 : in<uint32_t>(c_, i.b)[lane];
        const auto kind = static_cast<BarrierKind>(i.kind);
        const bool reduce = kind >= BarrierKind::red_popc;
        uint32_t votes = 0;
        if (reduce) {
            votes = predicate(c_, i.c);
            if (i.imm) votes = ~votes;
        }
        if (kind == BarrierKind::arrive) {
            c_.block->arrive(w_, number, expected, m, false, 0);
            return false;
        }
        const uint32_t pc = g->pc;
        keep(g, m, mask, pc + 1);
        g->state = Group::State::at_barrier;
        g->barrier = static_cast<uint8_t>(number);
        c_.block->arrive(w_, number, expected, m, reduce, votes);
        return true;
    }

    void copy(const std::vector<Copy>& list, uint32_t from, uint32_t to, uint32_t m) {
        for (const Copy& part : list) {
            for_lanes(m, [&](uint32_t l) {
                std::byte* window = c_.local + l * c_.local_stride;
                std::memcpy(window + to + part.to, window + from + part.from, part.size);
            });
        }
    }

    void call(const Inst& i, const CallSite& site, uint32_t function, uint32_t m) {
        Group* g = s_.current;
        Frame* caller = g->frame;
        const FunctionCode& callee = c_.code->functions[function];
        const uint32_t base = caller->local_end;
        if (base + uint64_t{callee.local_bytes} > c_.local_bytes || caller->depth > 20000)
            fault(c_, i, Fault::Kind::stack_overflow, static_cast<uint32_t>(__builtin_ctz(m)),
                  "call of " + callee.name + ": the stack of " + std::to_string(c_.local_bytes) + " bytes is full");
        Frame* frame = c_.block->enter(function, caller);
        frame->site = &site;
        frame->return_pc = g->pc + 1;
        frame->live = m;
        frame->local_base = base;
        frame->local_end = base + callee.local_bytes;
        copy(site.arguments, caller->local_base, base, m);
        g->frame = frame;
        g->pc = callee.entry;
    }

    void call_through_pointer(const Inst& i, uint32_t m) {
        const uint64_t* address = in<uint64_t>(c_, i.a);
        const auto lane = static_cast<uint32_t>(__builtin_ctz(m));
        uint32_t same = 0;
        for_lanes(m, [&](uint32_t l) { same |= address[l] == address[lane] ? lane_bit[l] : 0; });
        Group* g = s_.current;
        if (same != m) {
            s_.split(m & ~same, g->pc);  // the others execute the call again, on their own
            g->mask = same;
        }
        const auto& program = static_cast<const LoadedImage&>(*c_.grid->launch.program).compiled();
        const int64_t linked = program.function_at(address[lane]);
        const int32_t function = linked < 0 ? -1 : c_.code->function_of[static_cast<size_t>(linked)];
        if (function < 0) {
            char text[64];
            std::snprintf(text, sizeof text, "call of 0x%llx, which is no function",
                          static_cast<unsigned long long>(address[lane]));
            fault(c_, i, Fault::Kind::invalid_pc, lane, text);
        }
        call(i, c_.code->calls[i.target], static_cast<uint32_t>(function), same);
    }

    void return_from(Group* g, uint32_t m) {
        Frame* frame = g->frame;
        Frame* caller = frame->parent;
        copy(frame->site->results, frame->local_base, caller->local_base, m);
        g->frame = caller;
        g->pc = frame->return_pc;
        frame->live &= ~m;
        if (frame->live == 0) c_.block->leave(frame);
    }

    // The current group's lanes end.
    void end(uint32_t m) {
        for (Frame* f = s_.current->frame; f;) {
            Frame* parent = f->parent;
            f->live &= ~m;
            if (f->live == 0) c_.block->leave(f);
            f = parent;
        }
        s_.drop_current();
        w_.exited |= m;
        c_.block->lanes_ended();
    }

    Context& c_;
    Warp& w_;
    Scheduler s_;
};

}  // namespace

Turn run_warp(Context& c, Warp& warp, bool desperate) {
    c.warp = &warp;
    c.carry = warp.carry;
    Turn turn = Runner(c, warp).run(desperate);
    warp.carry = c.carry;
    return turn;
}

Arena::~Arena() {
    for (Chunk& chunk : chunks_) std::free(chunk.memory);
}

void Arena::reset() {
    // One chunk of the size that was needed is enough the next time.
    if (chunks_.size() > 1) {
        size_t total = 0;
        for (Chunk& chunk : chunks_) {
            total += chunk.size;
            std::free(chunk.memory);
        }
        chunks_.clear();
        current_ = used_ = 0;
        take(total);
    }
    current_ = used_ = 0;
}

std::byte* Arena::take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    while (current_ < chunks_.size() && used_ + bytes > chunks_[current_].size) {
        ++current_;
        used_ = 0;
    }
    if (current_ == chunks_.size()) {
        size_t size = std::max<size_t>(bytes, 64 * 1024);
        auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, size));
        if (!memory) throw std::bad_alloc();
        std::memset(memory, 0, size);
        chunks_.push_back({memory, size});
        used_ = 0;
    }
    std::byte* result = chunks_[current_].memory + used_;
    used_ += bytes;
    return result;
}

}  // namespace softgpu
