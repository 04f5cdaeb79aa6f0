#include "shared_names.h"

#include <sys/mman.h>
#include <unistd.h>

#include "client.h"

namespace gpuferry {

int write_name(const SharedName& name) {
    const int descriptor = memfd_create("gpuferry-shared-memory", MFD_CLOEXEC);
    if (descriptor >= 0 && pwrite(descriptor, &name, sizeof name, 0) != static_cast<ssize_t>(sizeof name)) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

bool read_name(int descriptor, SharedName::What what, SharedName& name, CUdevice& device) {
    if (pread(descriptor, static_cast<void*>(&name), sizeof name, 0) != static_cast<ssize_t>(sizeof name)) return false;
    device = client().ordinal_at(name.place);
    return name.what == what && device >= 0;
}

}  // namespace gpuferry
