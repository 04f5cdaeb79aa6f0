// Device memory that another process of the lease opens: its worker asks this one for it over a local socket.
//
// The name of memory is this process and a random key that only the client that shared it knows; the peer must run as
// the same user. Memory is made anew, exportable, when it is first shared: all other memory costs nothing for it.
#pragma once

#include <array>
#include <map>
#include <mutex>

#include "reaper.h"

namespace gpuferry::worker {

class Session;
using SharingKey = std::array<char, 16>;

class SharedMemory {
  public:
    // The key of the mapping at `address`.
    CUresult share(Session& session, uint64_t address, SharingKey& key);
    // The key of exportable memory that the program made itself.
    CUresult share(CUmemGenericAllocationHandle memory, SharingKey& key);
    // What another worker shares, as memory of this process.
    static CUresult import(uint32_t process, const SharingKey& key, CUmemGenericAllocationHandle& memory);
    // Maps what another worker shares at an address of this session's window.
    static CUresult open(Session& session, uint32_t process, const SharingKey& key, uint64_t address, uint64_t size,
                         size_t device);

  private:
    bool listen();
    CUresult publish(CUmemGenericAllocationHandle memory, SharingKey& key);
    void answer_peers(int socket);
    void answer_peer(int peer);

    std::mutex lock_;
    bool listening_ = false;
    std::map<SharingKey, int> descriptors_;
    std::map<uint64_t, std::pair<CUmemGenericAllocationHandle, SharingKey>> shared_;  // by address
};

}  // namespace gpuferry::worker
