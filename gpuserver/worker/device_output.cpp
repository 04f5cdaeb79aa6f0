#include "device_output.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

namespace gpuferry::worker {

void DeviceOutput::capture(int descriptor, FILE* stream) {
    stream_ = stream;
    original_ = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    file_ = memfd_create("device-output", MFD_CLOEXEC);
    // Append mode: the file can be emptied under the driver's feet.
    if (file_ < 0 || fcntl(file_, F_SETFL, O_APPEND) != 0 || dup2(file_, descriptor) < 0) {
        throw std::runtime_error("cannot capture what kernels print");
    }
    setvbuf(stream, nullptr, _IOFBF, 1 << 16);
}

std::string DeviceOutput::take() {
    std::fflush(stream_);
    const off_t size = lseek(file_, 0, SEEK_END);
    if (size <= 0) return {};
    std::string text(static_cast<size_t>(size), '\0');
    const ssize_t got = pread(file_, text.data(), text.size(), 0);
    if (ftruncate(file_, 0) != 0 || got < 0) return {};
    text.resize(static_cast<size_t>(got));
    return text;
}

}  // namespace gpuferry::worker
