#include "image/image_bytes.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace softgpu {
namespace {

// memcpy that says false where it would fault. Falls back to memcpy where a sandbox forbids the system call.
bool guarded_copy(void* to, const void* from, size_t size) {
    auto* target = static_cast<char*>(to);
    auto* source = static_cast<const char*>(from);
    while (size > 0) {
        iovec local{target, size};
        iovec remote{const_cast<char*>(source), size};
        ssize_t copied = ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0);
        if (copied < 0 && (errno == ENOSYS || errno == EPERM)) {
            std::memcpy(target, source, size);
            return true;
        }
        if (copied <= 0) return false;
        target += copied;
        source += copied;
        size -= static_cast<size_t>(copied);
    }
    return true;
}

}  // namespace

ImageBytes ImageBytes::from(uint64_t offset) const {
    if (offset >= size_) return ImageBytes(base_, 0, guarded_);
    return ImageBytes(base_ + offset, guarded_ && size_ == UINT64_MAX ? size_ : size_ - offset, guarded_);
}

ImageBytes ImageBytes::first(uint64_t size) const {
    return ImageBytes(base_, std::min(size, size_), guarded_);
}

bool ImageBytes::copy(uint64_t offset, void* to, size_t size) const {
    if (offset > size_ || size > size_ - offset) return false;
    if (size == 0) return true;
    auto start = reinterpret_cast<uintptr_t>(base_);
    if (offset > UINTPTR_MAX - start || size > UINTPTR_MAX - start - offset) return false;
    if (guarded_) return guarded_copy(to, base_ + offset, size);
    std::memcpy(to, base_ + offset, size);
    return true;
}

std::optional<std::string> ImageBytes::text(size_t limit) const {
    std::string found;
    constexpr size_t page = 4096;
    while (found.size() < size_) {
        // Never across a page that might be the last one mapped.
        size_t left = page - (reinterpret_cast<uintptr_t>(base_) + found.size()) % page;
        size_t wanted = static_cast<size_t>(std::min<uint64_t>(left, size_ - found.size()));
        size_t have = found.size();
        found.resize(have + wanted);
        if (!copy(have, found.data() + have, wanted)) return std::nullopt;
        if (auto end = found.find('\0', have); end != found.npos) {
            found.resize(end);
            break;
        }
        if (found.size() > limit) return std::nullopt;
    }
    if (found.size() > limit) return std::nullopt;
    return found;
}

}  // namespace softgpu
