// Values that libraries attach to a context under a key of theirs. Each call of the CUDA runtime begins with a look-up
// here, so it is one hash look-up.
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "tables/slot_table.h"

namespace gpuferry {
namespace {

using Destructor = void (*)(CUcontext context, void* key, void* value);

struct Key {
    Handle context;
    void* key;
    bool operator==(const Key&) const = default;
};

struct KeyHash {
    size_t operator()(const Key& key) const {
        return std::hash<void*>()(key.key) * 31 + std::hash<Handle>()(key.context);
    }
};

struct Value {
    void* value;
    Destructor destructor;
};

std::shared_mutex lock;
auto& values = *new std::unordered_map<Key, Value, KeyHash>;

// NULL and -1 mean the calling thread's current context; 0 when there is none.
Handle meant(CUcontext context) {
    if (context && to_handle(context) != ~Handle{0}) return to_handle(context);
    const Context* current = current_context();
    return current ? current->handle : 0;
}

CUresult put(CUcontext context, void* key, void* value, Destructor destructor) {
    const Handle handle = meant(context);
    if (!handles_table().living(Kind::context, handle)) return CUDA_ERROR_INVALID_CONTEXT;
    const std::unique_lock held(lock);
    values[{handle, key}] = {value, destructor};
    return CUDA_SUCCESS;
}

CUresult remove(CUcontext context, void* key) {
    const std::unique_lock held(lock);
    return values.erase({meant(context), key}) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult get(void** value, CUcontext context, void* key) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    const Handle handle = meant(context);
    if (!handle) return CUDA_ERROR_INVALID_CONTEXT;
    const std::shared_lock held(lock);
    const auto found = values.find({handle, key});
    if (found == values.end()) return CUDA_ERROR_INVALID_HANDLE;
    *value = found->second.value;
    return CUDA_SUCCESS;
}

}  // namespace

void drop_context_local_storage(const Context* context) {
    std::vector<std::pair<Key, Value>> dropped;
    {
        const std::unique_lock held(lock);
        for (auto entry = values.begin(); entry != values.end();) {
            if (entry->first.context == context->handle) {
                dropped.emplace_back(*entry);
                entry = values.erase(entry);
            } else {
                ++entry;
            }
        }
    }
    for (const auto& [key, value] : dropped) {
        if (value.destructor) value.destructor(from_handle<CUcontext>(key.context), key.key, value.value);
    }
}

// No size word; slots count from 0 and end with NULL.
const void* context_local_storage_table() {
    static const void* table[] = {reinterpret_cast<const void*>(&put), reinterpret_cast<const void*>(&remove),
                                  reinterpret_cast<const void*>(&get), nullptr};
    return table;
}

}  // namespace gpuferry
