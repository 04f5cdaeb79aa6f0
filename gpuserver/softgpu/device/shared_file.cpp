// Memory files: memfd_create, and /proc/PID/fd to reach those of others.
#include "device/shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "device/error.h"

namespace softgpu {

int make_memory_file(const char* name, uint64_t size) {
    const int descriptor = memfd_create(name, MFD_CLOEXEC);
    if (descriptor >= 0 && ftruncate(descriptor, static_cast<off_t>(size)) == 0) return descriptor;
    const std::string why = std::strerror(errno);
    if (descriptor >= 0) close(descriptor);
    throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, "cannot make a memory file: " + why);
}

int open_file_of(int process, int descriptor) {
    const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(descriptor);
    const int mine = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (mine < 0) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "cannot open " + path + ": " + std::strerror(errno));
    }
    return mine;
}

uint64_t random_key() {
    uint64_t key = 0;
    if (getrandom(&key, sizeof key, 0) != sizeof key) {
        throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::string("getrandom: ") + std::strerror(errno));
    }
    return key;
}

}  // namespace softgpu
