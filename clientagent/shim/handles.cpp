#include "handles.h"

namespace gpuferry {

Handles& handles_table() {
    static auto* only = new Handles;
    return *only;
}

Handles::Slot* Handles::make_slot(Table& table, uint32_t index) {
    auto& chunk = table.chunks[index / chunk_slots];
    if (!chunk.load()) chunk.store(new Slot[chunk_slots], std::memory_order_release);
    return &chunk.load()[index % chunk_slots];
}

Handle Handles::create(Kind kind, void* detail, unsigned server) {
    const std::lock_guard held(lock_);
    uint32_t index = next_;
    // Indices rest before they are used again, so that a stale handle is told from its successor for long.
    if (free_.size() > 1024 || next_ >= most_objects) {
        if (free_.empty()) return 0;
        index = free_.front();
        free_.pop_front();
    } else {
        ++next_;
    }
    Slot* slot = make_slot(client_named_, index);
    const Handle handle = make_handle(kind, ++slot->generation, index, server);
    slot->detail.store(detail, std::memory_order_release);
    slot->handle.store(handle, std::memory_order_release);
    return handle;
}

void Handles::adopt(Handle handle, void* detail) {
    if (!is_handle(handle) || !named_by_worker(handle) || index_of(handle) >= most_objects) return;
    if (server_of(handle) >= most_servers) return;
    const std::lock_guard held(lock_);
    auto& table = worker_named_[server_of(handle)];
    if (!table.load()) table.store(new Table, std::memory_order_release);
    Slot* slot = make_slot(*table.load(), index_of(handle));
    if (slot->handle.load() == handle) return;
    slot->detail.store(detail, std::memory_order_release);
    slot->handle.store(handle, std::memory_order_release);
}

void Handles::forget(Handle handle) {
    if (!living(kind_of(handle), handle)) return;
    const std::lock_guard held(lock_);
    auto* slot = const_cast<Slot*>(find_slot(handle));
    if (!slot || slot->handle.load() != handle) return;
    slot->handle.store(0, std::memory_order_release);
    slot->detail.store(nullptr, std::memory_order_release);
    if (!named_by_worker(handle)) free_.push_back(index_of(handle));
}

}  // namespace gpuferry
