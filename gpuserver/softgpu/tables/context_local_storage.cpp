// Values that libraries attach to a context under a key of theirs. Each call of the CUDA runtime begins with a look-up
// here, so it is one hash look-up.
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "api/entry.h"
#include "device/context.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

using Destructor = void (*)(CUcontext context, void* key, void* value);

struct Key {
    CUcontext context;
    void* key;
    bool operator==(const Key&) const = default;
};

struct KeyHash {
    size_t operator()(const Key& key) const {
        return std::hash<void*>()(key.key) * 31 + std::hash<void*>()(key.context);
    }
};

struct Value {
    void* value;
    Destructor destructor;
};

std::shared_mutex mutex;
auto& values = *new std::unordered_map<Key, Value, KeyHash>;

// NULL and -1 mean the calling thread's current context.
CUcontext meant(CUcontext context) {
    if (context && context != reinterpret_cast<CUcontext>(intptr_t{-1})) return context;
    auto current = Context::current();
    if (!current) throw DriverError(CUDA_ERROR_INVALID_CONTEXT);
    return handle_of(*current);
}

// When a context ends: takes everything of it out, then lets the owners free their values.
void drop_context(CUcontext context) {
    std::vector<std::pair<Key, Value>> dropped;
    {
        std::unique_lock lock(mutex);
        for (auto entry = values.begin(); entry != values.end();) {
            if (entry->first.context == context) {
                dropped.emplace_back(*entry);
                entry = values.erase(entry);
            } else {
                ++entry;
            }
        }
    }
    for (const auto& [key, value] : dropped) {
        if (value.destructor) value.destructor(key.context, key.key, value.value);
    }
}

bool holds_values(CUcontext context) {
    for (const auto& entry : values) {
        if (entry.first.context == context) return true;
    }
    return false;
}

CUresult put(CUcontext context, void* key, void* value, Destructor destructor) {
    return entry("CONTEXT_LOCAL_STORAGE.put", [&] {
        CUcontext handle = meant(context);
        auto object = require<Context>(handle);
        std::unique_lock lock(mutex);
        bool first = !holds_values(handle);
        values[{handle, key}] = {value, destructor};
        lock.unlock();
        if (first) object->on_tear_down([handle] { drop_context(handle); });
    });
}

CUresult remove(CUcontext context, void* key) {
    return entry("CONTEXT_LOCAL_STORAGE.remove", [&] {
        std::unique_lock lock(mutex);
        return values.erase({meant(context), key}) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

CUresult get(void** value, CUcontext context, void* key) {
    return entry("CONTEXT_LOCAL_STORAGE.get", [&] {
        check_value(value != nullptr, "no place for the value");
        CUcontext handle = meant(context);
        std::shared_lock lock(mutex);
        auto found = values.find({handle, key});
        if (found == values.end()) return CUDA_ERROR_INVALID_HANDLE;
        *value = found->second.value;
        return CUDA_SUCCESS;
    });
}

}  // namespace

// No size word; slots count from 0 and end with NULL.
const void* context_local_storage_table() {
    static const void* table[] = {reinterpret_cast<const void*>(&put), reinterpret_cast<const void*>(&remove),
                                  reinterpret_cast<const void*>(&get), nullptr};
    return table;
}

}  // namespace softgpu
