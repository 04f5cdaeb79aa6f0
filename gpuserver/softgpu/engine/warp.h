// A warp: up to 32 lanes, in groups that stand at the same place.
//
// Lanes that diverge become groups of their own. The deepest group at the lowest instruction runs first, so that
// groups meet again where their ways join. A group that spins cannot starve the others: after a number of branches the
// group that waited longest gets its turn (independent thread scheduling, CUDA programming guide 16.5).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/code.h"
#include "engine/context.h"

namespace softgpu {

// The registers of one call of one function, for the lanes that made the call together.
struct Frame {
    std::byte* regs = nullptr;
    Frame* parent = nullptr;
    const CallSite* site = nullptr;
    uint32_t function = 0;  // of Code::functions
    uint32_t return_pc = 0;
    uint32_t live = 0;  // lanes inside
    uint32_t depth = 0;
    uint32_t local_base = 0;  // start of the frame in each lane's local window
    uint32_t local_end = 0;   // its end; alloca moves it
    int32_t linked_function = 0;
};

struct Group {
    enum class State : uint8_t { ready, at_barrier, at_warp_sync };
    uint32_t pc = 0;
    uint32_t mask = 0;
    Frame* frame = nullptr;
    State state = State::ready;
    bool forced = false;    // execute the collective with the lanes that are here
    uint8_t barrier = 0;
    uint32_t need = 0;      // lanes waited for at a warp-wide instruction
    uint64_t last_run = 0;  // when it was last chosen
};

struct Warp {
    uint32_t index = 0;
    uint32_t existing = 0;  // lanes of the block
    uint32_t exited = 0;
    uint32_t count = 0;  // groups
    uint32_t carry = 0;
    uint64_t clock = 0;
    uint32_t branches = 0;  // taken since the last change of turns between groups
    bool rotate = false;    // the group that waited longest is next
    std::array<Group, lanes> groups;
    // Threads' indices, lane by lane.
    alignas(64) uint32_t tid[3][lanes];

    [[nodiscard]] uint32_t live() const { return existing & ~exited; }
    [[nodiscard]] bool finished() const { return live() == 0; }
    [[nodiscard]] bool ready() const {
        for (uint32_t g = 0; g < count; ++g)
            if (groups[g].state == Group::State::ready) return true;
        return false;
    }
};

// Memory of one block, reused by the next: grows, never moves what it gave out before `reset`.
class Arena {
  public:
    Arena() = default;
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    // Aligned to 64 bytes; not zeroed the second time. Throws std::bad_alloc.
    std::byte* take(size_t bytes);
    void reset();

  private:
    struct Chunk {
        std::byte* memory;
        size_t size;
    };
    std::vector<Chunk> chunks_;
    size_t current_ = 0, used_ = 0;
};

// How a turn of a warp ended.
enum class Turn : uint8_t { finished, waiting, used_up };

// Runs a warp until it ends, waits, or used up its turn. `desperate`: nothing else in the block can run, so
// warp-wide instructions go on with the lanes that came. Throws KernelFault.
Turn run_warp(Context& c, Warp& warp, bool desperate);

}  // namespace softgpu
