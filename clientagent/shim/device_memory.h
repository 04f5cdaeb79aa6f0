// Device memory as the client sees it: it chooses the addresses, inside the window that the worker reserved, and it
// knows the budget of each GPU; mapping and unmapping are posted.
//
// Each server's worker has a window of its own, and no two of them overlap. What a server's driver itself places
// (module variables, memory of graphs) may have one address on two servers: there the current context's server is
// meant.
//
// Requests above half a granule get granules of their own. Smaller ones are carved from shared granules in multiples
// of 512 bytes, as NVIDIA's driver does. A freed small block rests until the GPU is known to be done with it: the
// worker's fence says so.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "contexts.h"
#include "slice_account.h"

namespace gpuferry {

// Memory of one GPU that small requests are carved from: what cuMemAlloc takes, or a pool's. Guarded by DeviceMemory.
struct Arena {
    struct Granule {
        uint64_t base = 0;
        std::map<uint64_t, uint64_t> free;     // offset → size
        std::map<uint64_t, uint64_t> resting;  // offset → size: freed, perhaps still in use by the GPU
        uint64_t used = 0;                     // bytes of living blocks
    };
    std::map<uint64_t, Granule> granules;
    bool resting = false;
    std::map<uint64_t, uint64_t> mappings;  // address → size: the granules, and blocks that have their own
    uint64_t mapped = 0;                    // bytes of them
    // A pool's memory is reached by the GPUs that the pool says; other memory by those whose contexts have peer access.
    bool of_pool = false;
    std::map<CUdevice, CUmemAccess_flags> rights;  // of other GPUs than its own
};

// What lies at a device address.
struct Stretch {
    enum class Origin { allocated, carved, global, of_graph, mapped, imported, managed, managed_variable };
    uint64_t size = 0;  // bytes, as asked for
    CUdevice device = 0;
    const Context* context = nullptr;
    Origin origin = Origin::allocated;
    unsigned long long id = 0;                       // CU_POINTER_ATTRIBUTE_BUFFER_ID
    Arena* arena = nullptr;                          // that it was allocated in
    std::map<CUdevice, CUmemAccess_flags> rights{};  // where the program mapped it itself

    [[nodiscard]] bool is_managed() const { return origin == Origin::managed || origin == Origin::managed_variable; }
};

class DeviceMemory {
  public:
    // The account is open already.
    void open(const Snapshot& snapshot);

    // In the device's own arena, or in that of a pool, which lives as long as the process.
    CUresult allocate(Context* context, uint64_t size, CUdeviceptr& address, CUdevice device, Arena* pool = nullptr);
    CUresult free(CUdeviceptr address);
    // Bytes that the arena has mapped.
    uint64_t mapped(const Arena& arena);
    // What another GPU may do with all of a pool's memory.
    CUresult set_rights(Arena& pool, CUdevice device, CUmemAccess_flags flags);
    CUmemAccess_flags rights(const Arena& pool, CUdevice device);
    // One of its mappings has been made anew.
    void renew_rights(const Arena& pool, CUdeviceptr mapping);
    // The same of what the program has mapped, in all of a range.
    void set_rights(CUdeviceptr address, uint64_t size, CUdevice device, CUmemAccess_flags flags);
    // What kernels of the context may do with the stretch.
    CUmemAccess_flags rights(const Stretch& stretch, const Context* context);

    // Addresses of the server's window for the program itself to map memory at; 0 when there are not as many.
    CUdeviceptr reserve(const Server& server, uint64_t size, uint64_t alignment, CUdeviceptr wanted);
    // False when this is not what `reserve` gave, or memory is mapped there.
    bool unreserve(CUdeviceptr address, uint64_t size);
    [[nodiscard]] bool reserved(CUdeviceptr address, uint64_t size);
    // Takes physical memory from a GPU's budget, which all processes of the lease share, or gives it back.
    bool charge(CUdevice device, uint64_t bytes);
    void discharge(CUdevice device, uint64_t bytes);
    // Whether the address lies in the server's window.
    static bool is_of_window(const Server& server, CUdeviceptr address) {
        return address - server.window_base < server.window_size;
    }

    // Memory at addresses that somebody else chose: module variables, what the program maps itself.
    void add_foreign(CUdeviceptr address, uint64_t size, const Context* context, Stretch::Origin origin,
                     CUdevice device);
    void remove_foreign(const Server& server, CUdeviceptr address);

    // The stretch that holds `address`; false when none does. `base` becomes where it starts.
    bool find(CUdeviceptr address, CUdeviceptr& base, Stretch& stretch);
    // Whether all of these bytes lie in one stretch; `server` becomes where.
    bool holds(CUdeviceptr address, uint64_t size, Server*& server);
    bool holds(CUdeviceptr address, uint64_t size) {
        Server* server = nullptr;
        return holds(address, size, server);
    }

    // Bytes left in the slice, and its size.
    void info(CUdevice device, uint64_t& free, uint64_t& total);
    // Whether so little is left that what the client does not count may fail.
    bool scarce(CUdevice device);
    // Everything of a context or GPU is gone.
    void forget_context(const Context* context);
    void forget_device(CUdevice device, const Context* primary);
    SliceAccount& account() { return account_; }

  private:
    using Granule = Arena::Granule;

    // Of one server: the window's free addresses, and what lies where.
    struct Space {
        Server* server = nullptr;
        std::map<uint64_t, uint64_t> room;  // free stretches of the window: address → size
        uint64_t cursor = 0;  // where the search for room goes on: addresses are used again as late as can be
        std::map<uint64_t, Stretch> stretches;

        uint64_t find_room(uint64_t size);
    };
    using Stretches = std::map<uint64_t, Stretch>;

    Space& space_of(CUdevice device);
    Space& space_around(uint64_t address);
    // The space where a stretch holds the address, the current context's before others; null when none does.
    Space* find_space(uint64_t address, Stretches::iterator& at);
    CUresult free(Space& space, Stretches::iterator at, std::unique_lock<std::mutex>& held);
    void give_room_back(uint64_t address, uint64_t size);
    CUresult map(Arena& arena, CUdevice device, uint64_t size, uint64_t& address);
    CUresult unmap(Arena& arena, CUdevice device, uint64_t address, uint64_t size);
    bool carve(Arena& arena, uint64_t size, uint64_t& address);
    CUresult free_carved(uint64_t address, const Stretch& stretch);
    void give_back(CUdevice device, uint64_t bytes);
    CUresult wait_for_resting(Arena& arena, CUdevice device, std::unique_lock<std::mutex>& held);
    template <class Which>
    void forget_all(Which which);

    std::mutex lock_;
    SliceAccount account_;
    std::vector<Space> spaces_;                  // by server
    std::map<uint64_t, uint64_t> reservations_;  // address → size
    std::deque<Arena> arenas_;                   // by device
    unsigned long long last_id_ = 0;
};

DeviceMemory& device_memory();

// Memory that a graph has allocated, in the stream's turn or when all work is done.
CUresult free_memory_of_graph(CUdeviceptr address, CUstream stream = nullptr, bool in_stream = false);

}  // namespace gpuferry
