#include "program_memory.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace gpuferry {

// The system says what is there. Where a sandbox forbids to ask it, memory is taken to be there.
size_t read_program(void* to, const char* from, size_t size) {
    const iovec local{to, size}, remote{const_cast<char*>(from), size};
    const ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno == EFAULT) return 0;
    std::memcpy(to, from, size);
    return size;
}

void write_program(char* to, const char* from, std::span<const Run> runs) {
    constexpr size_t most_runs = 1024;  // of one call: IOV_MAX
    for (size_t first = 0; first < runs.size(); first += most_runs) {
        std::vector<iovec> local, remote;
        for (size_t i = first; i < std::min(runs.size(), first + most_runs); ++i) {
            const auto [start, end] = runs[i];
            local.push_back({const_cast<char*>(from) + start, end - start});
            remote.push_back({to + start, end - start});
        }
        const ssize_t done = process_vm_writev(getpid(), local.data(), local.size(), remote.data(), remote.size(), 0);
        if (done >= 0 || errno == EFAULT) continue;
        for (size_t i = 0; i < local.size(); ++i) {
            std::memcpy(remote[i].iov_base, local[i].iov_base, local[i].iov_len);
        }
    }
}

}  // namespace gpuferry
