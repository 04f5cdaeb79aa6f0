// The client's table of handles: which are alive, and what the client knows about the objects behind them.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>

#include "handle.h"

namespace gpuferry {

class Handles {
  public:
    // A new handle of the client's own, for an object on this server; `detail` is what `find` gives for it.
    Handle create(Kind kind, void* detail = nullptr, unsigned server = 0);
    // A handle that a worker chose; the first `detail` given stays.
    void adopt(Handle handle, void* detail = nullptr);
    void forget(Handle handle);

    // Without a lock: launches look their function up here.
    [[nodiscard]] bool living(Kind kind, Handle handle) const {
        const Slot* slot = find_slot(handle);
        return slot && kind_of(handle) == kind && slot->handle.load(std::memory_order_acquire) == handle;
    }
    // The detail of a living handle of this kind; null for any other.
    template <class T>
    [[nodiscard]] T* find(Kind kind, Handle handle) const {
        return living(kind, handle) ? static_cast<T*>(find_slot(handle)->detail.load(std::memory_order_acquire))
                                    : nullptr;
    }

  private:
    struct Slot {
        std::atomic<Handle> handle = 0;  // 0: free
        std::atomic<void*> detail = nullptr;
        uint16_t generation = 0;
    };
    static constexpr uint32_t chunk_slots = 4096;
    static constexpr uint32_t most_chunks = most_objects / chunk_slots;
    struct Table {
        std::atomic<Slot*> chunks[most_chunks] = {};
    };

    [[nodiscard]] const Slot* find_slot(Handle handle) const {
        const uint32_t index = index_of(handle);
        if (!is_handle(handle) || index >= most_objects) return nullptr;
        const Table* table = find_table(handle);
        if (!table) return nullptr;
        const Slot* chunk = table->chunks[index / chunk_slots].load(std::memory_order_acquire);
        return chunk ? &chunk[index % chunk_slots] : nullptr;
    }
    // Each server's worker chooses indices of its own; the client's own are of one series.
    [[nodiscard]] const Table* find_table(Handle handle) const {
        if (!named_by_worker(handle)) return &client_named_;
        const unsigned server = server_of(handle);
        return server < most_servers ? worker_named_[server].load(std::memory_order_acquire) : nullptr;
    }
    Slot* make_slot(Table& table, uint32_t index);

    std::mutex lock_;
    Table client_named_;
    std::atomic<Table*> worker_named_[most_servers] = {};
    std::deque<uint32_t> free_;
    uint32_t next_ = 1;
};

// The one table of this process; it outlives every static destructor.
Handles& handles_table();

template <class T>
Handle to_handle(T value) {
    return (Handle)(uintptr_t)value;  // handle types are pointers, or integers of their size
}
template <class T>
T from_handle(Handle handle) {
    return (T)(uintptr_t)handle;
}

}  // namespace gpuferry
