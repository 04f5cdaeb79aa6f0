// Which GPUs of the session reach the memory of which others. The driver's own switch does not count for memory that is
// mapped by the virtual memory calls, as all of the client's is: rights are set for each mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "driver.h"

namespace gpuferry::worker {

class Session;

class PeerAccess {
  public:
    // One more context (or one fewer) of GPU `from` reaches the memory of GPU `to`; mappings follow.
    CUresult add(Session& session, size_t from, size_t to);
    CUresult remove(Session& session, size_t from, size_t to);
    // Rights for a new mapping of GPU `owner`, beside the owner's own.
    CUresult grant(Session& session, uint64_t address, uint64_t size, size_t owner);

  private:
    CUresult set(Session& session, size_t from, size_t to, CUmemAccess_flags flags);
    std::map<size_t, std::map<size_t, int>> reached_by_;  // owner → peer → contexts
};

}  // namespace gpuferry::worker
