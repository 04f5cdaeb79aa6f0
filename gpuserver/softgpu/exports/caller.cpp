#include "exports/caller.h"

#include <dlfcn.h>

#include <mutex>
#include <set>

#include "log.h"

namespace softgpu {
namespace {

// Where the executable or shared library with this address begins; null for memory that is in none.
const void* object_of(const void* address) {
    Dl_info info{};
    return ::dladdr(address, &info) ? info.dli_fbase : nullptr;
}

struct Runtimes {
    std::mutex mutex;
    std::set<const void*> objects;
};

Runtimes& runtimes() {
    static auto& one = *new Runtimes;
    return one;
}

thread_local const void* traced_caller = nullptr;

}  // namespace

void note_runtime(const void* address) {
    const void* object = object_of(address);
    if (!object) return;
    std::lock_guard lock(runtimes().mutex);
    runtimes().objects.insert(object);
}

bool is_in_runtime(const void* address) {
    const void* object = object_of(address);
    std::lock_guard lock(runtimes().mutex);
    return runtimes().objects.contains(object);
}

const void* caller_of_entry_point(const void* returns_to) {
    if (!tracing() || object_of(returns_to) != object_of(reinterpret_cast<const void*>(&note_runtime)))
        return returns_to;
    return traced_caller;
}

void note_traced_caller(const void* returns_to) {
    traced_caller = returns_to;
}

}  // namespace softgpu
