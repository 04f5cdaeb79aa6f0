#include "driver.h"

#include <dlfcn.h>

#include <cstring>
#include <stdexcept>

namespace gpuferry::worker {

Driver driver;

// Called through pointers of every signature: with C's calling convention the callee ignores the arguments.
CUresult driver_lacks_it() {
    return CUDA_ERROR_NOT_SUPPORTED;
}

void load_driver(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(std::string("cannot load the CUDA driver: ") + dlerror());
    if (!dlsym(library, "cuInit")) throw std::runtime_error(path + " is not a CUDA driver: it has no cuInit");
    for (const DriverEntry& entry : driver_entries) {
        void* found = dlsym(library, entry.symbol);
        if (!found) found = reinterpret_cast<void*>(&driver_lacks_it);
        std::memcpy(reinterpret_cast<char*>(&driver) + entry.offset, &found, sizeof found);
    }
}

}  // namespace gpuferry::worker
