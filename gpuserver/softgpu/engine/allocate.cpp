// Register allocation: registers whose lives do not overlap share a slot, so that a warp's registers stay in the
// processor's caches. Only registers of one width share: a slot's lanes then never overlap other lanes, and each
// lane's life may be judged on its own, however the warp diverges.
#include <algorithm>
#include <queue>

#include "engine/lower.h"

namespace softgpu {

namespace {

using Word = uint64_t;

struct BasicBlock {
    uint32_t begin, end;
    std::vector<uint32_t> next;
};

struct Life {
    uint32_t start = UINT32_MAX, end = 0;
    void cover(uint32_t position) {
        start = std::min(start, position);
        end = std::max(end, position);
    }
};

}  // namespace

void Lowering::allocate(FunctionCode& code) {
    const auto count = static_cast<uint32_t>(emitted_.size());
    const auto registers = static_cast<uint32_t>(widths_.size());
    auto is_register = [](int32_t operand) { return operand >= 0; };

    // Operands of one instruction. `define` for what it writes, `use` for what it reads.
    auto visit = [&](const Emitted& e, auto define, auto use) {
        const Inst& i = e.inst;
        if (is_register(i.guard)) use(i.guard);
        for (int32_t operand : {i.a, i.b, i.c})
            if (is_register(operand)) use(operand);
        for (uint32_t x = 0; x < e.extra_count; ++x) {
            const int32_t operand = extra_[i.extra + x];
            if (!is_register(operand)) continue;
            if (e.extra_defs >> x & 1)
                define(operand);
            else
                use(operand);
        }
        if (is_register(i.d)) define(i.d);
    };

    // Basic blocks.
    std::vector<bool> leader(count + 1, false);
    leader[0] = true;
    for (uint32_t k = 0; k < count; ++k) {
        const Inst& i = emitted_[k].inst;
        if (i.flow == Flow::branch) leader[i.target] = true;
        if (i.flow == Flow::branch_table)
            for (uint32_t target : code_->tables[i.target]) leader[target] = true;
        if (i.flow == Flow::branch || i.flow == Flow::branch_table || i.flow == Flow::ret || i.flow == Flow::exit)
            leader[k + 1] = true;
    }
    std::vector<BasicBlock> blocks;
    std::vector<uint32_t> block_of(count + 1, 0);
    for (uint32_t k = 0; k < count; ++k) {
        if (leader[k]) {
            if (!blocks.empty()) blocks.back().end = k;
            blocks.push_back({k, count, {}});
        }
        block_of[k] = static_cast<uint32_t>(blocks.size() - 1);
    }
    for (uint32_t b = 0; b < blocks.size(); ++b) {
        const Inst& last = emitted_[blocks[b].end - 1].inst;
        bool falls = true;
        if (last.flow == Flow::branch) {
            blocks[b].next.push_back(block_of[last.target]);
            falls = last.guard != nothing;
        } else if (last.flow == Flow::branch_table) {
            for (uint32_t target : code_->tables[last.target]) blocks[b].next.push_back(block_of[target]);
            falls = last.guard != nothing;
        } else if (last.flow == Flow::ret || last.flow == Flow::exit) {
            falls = last.guard != nothing;
        }
        if (falls && blocks[b].end < count) blocks[b].next.push_back(b + 1);
    }

    // Liveness, only of registers that live across blocks.
    std::vector<uint32_t> defined_in(registers, UINT32_MAX), global_index(registers, UINT32_MAX);
    uint32_t globals = 0;
    for (uint32_t b = 0; b < blocks.size(); ++b) {
        for (uint32_t k = blocks[b].begin; k < blocks[b].end; ++k) {
            // Read here without having been written here before: it comes from another block, or round a loop.
            auto read = [&](int32_t r) {
                const auto u = static_cast<uint32_t>(r);
                if (defined_in[u] != b && global_index[u] == UINT32_MAX) global_index[u] = globals++;
            };
            visit(emitted_[k], [](int32_t) {}, read);
            const bool guarded = emitted_[k].inst.guard != nothing;
            visit(
                emitted_[k],
                [&](int32_t r) {
                    if (guarded) read(r);
                    defined_in[static_cast<uint32_t>(r)] = b;
                },
                [](int32_t) {});
        }
    }
    const size_t words = (globals + 63) / 64;
    std::vector<Word> use(words * blocks.size()), kill(words * blocks.size()), in(words * blocks.size()),
        out(words * blocks.size());
    for (uint32_t b = 0; b < blocks.size(); ++b) {
        Word* u = use.data() + b * words;
        Word* d = kill.data() + b * words;
        for (uint32_t k = blocks[b].begin; k < blocks[b].end; ++k) {
            const bool guarded = emitted_[k].inst.guard != nothing;
            auto read = [&](int32_t r) {
                const uint32_t g = global_index[static_cast<uint32_t>(r)];
                if (g != UINT32_MAX && !(d[g / 64] >> g % 64 & 1)) u[g / 64] |= Word{1} << g % 64;
            };
            visit(emitted_[k], [](int32_t) {}, read);
            visit(
                emitted_[k],
                [&](int32_t r) {
                    const uint32_t g = global_index[static_cast<uint32_t>(r)];
                    if (g == UINT32_MAX) return;
                    if (guarded)
                        read(r);  // lanes without the guard keep the old value
                    else
                        d[g / 64] |= Word{1} << g % 64;
                },
                [](int32_t) {});
        }
    }
    std::vector<std::vector<uint32_t>> previous(blocks.size());
    for (uint32_t b = 0; b < blocks.size(); ++b)
        for (uint32_t n : blocks[b].next) previous[n].push_back(b);
    std::vector<bool> queued(blocks.size(), true);
    std::vector<uint32_t> work;
    for (uint32_t b = 0; b < blocks.size(); ++b) work.push_back(b);
    while (words && !work.empty()) {
        const uint32_t b = work.back();
        work.pop_back();
        queued[b] = false;
        Word* o = out.data() + b * words;
        for (uint32_t n : blocks[b].next)
            for (size_t w = 0; w < words; ++w) o[w] |= in[n * words + w];
        bool changed = false;
        for (size_t w = 0; w < words; ++w) {
            const Word now = use[b * words + w] | (o[w] & ~kill[b * words + w]);
            changed |= now != in[b * words + w];
            in[b * words + w] = now;
        }
        if (!changed) continue;
        for (uint32_t p : previous[b]) {
            if (queued[p]) continue;
            queued[p] = true;
            work.push_back(p);
        }
    }

    // Lives, as positions: operands of instruction k are read at 2k, results written at 2k+1.
    std::vector<Life> lives(registers);
    std::vector<uint32_t> global_register(globals);
    for (uint32_t r = 0; r < registers; ++r)
        if (global_index[r] != UINT32_MAX) global_register[global_index[r]] = r;
    for (uint32_t b = 0; b < blocks.size(); ++b) {
        for (size_t w = 0; w < words; ++w) {
            for (Word bits = in[b * words + w]; bits; bits &= bits - 1)
                lives[global_register[w * 64 + static_cast<size_t>(__builtin_ctzll(bits))]].cover(2 * blocks[b].begin);
            for (Word bits = out[b * words + w]; bits; bits &= bits - 1)
                lives[global_register[w * 64 + static_cast<size_t>(__builtin_ctzll(bits))]].cover(2 * blocks[b].end);
        }
        for (uint32_t k = blocks[b].begin; k < blocks[b].end; ++k) {
            const bool apart = emitted_[k].apart;
            visit(
                emitted_[k], [&](int32_t r) { lives[static_cast<uint32_t>(r)].cover(apart ? 2 * k : 2 * k + 1); },
                [&](int32_t r) { lives[static_cast<uint32_t>(r)].cover(apart ? 2 * k + 1 : 2 * k); });
        }
    }

    // Slots, widest lanes first; predicates are one word each.
    std::vector<int32_t> slot(registers, nothing);
    uint32_t bytes = 0;
    for (uint32_t width : {16U, 8U, 4U, 2U, 0U}) {
        const uint32_t size = width ? width * lanes : 4;
        std::vector<uint32_t> order;
        for (uint32_t r = 0; r < registers; ++r)
            if (widths_[r] == width && lives[r].start != UINT32_MAX) order.push_back(r);
        std::sort(order.begin(), order.end(), [&](uint32_t x, uint32_t y) { return lives[x].start < lives[y].start; });
        using Ending = std::pair<uint32_t, int32_t>;  // end, slot
        std::priority_queue<Ending, std::vector<Ending>, std::greater<>> active;
        std::vector<int32_t> free;
        for (uint32_t r : order) {
            while (!active.empty() && active.top().first < lives[r].start) {
                free.push_back(active.top().second);
                active.pop();
            }
            if (free.empty()) {
                slot[r] = static_cast<int32_t>(bytes);
                bytes += size;
            } else {
                slot[r] = free.back();
                free.pop_back();
            }
            active.push({lives[r].end, slot[r]});
        }
    }
    code.register_bytes = bytes;

    auto place = [&](int32_t& operand) {
        if (is_register(operand)) operand = slot[static_cast<uint32_t>(operand)];
    };
    for (Emitted& e : emitted_) {
        place(e.inst.guard);
        place(e.inst.d);
        place(e.inst.a);
        place(e.inst.b);
        place(e.inst.c);
        for (uint32_t x = 0; x < e.extra_count; ++x) place(extra_[e.inst.extra + x]);
    }
}

}  // namespace softgpu
