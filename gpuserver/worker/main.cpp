// gpuferry-worker: executes one client process's CUDA calls. The daemon starts it with a connection whose peer has
// proved that it may use this lease.
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "nvml_session.h"
#include "own_addresses.h"
#include "session.h"

namespace {

struct Arguments {
    int socket = -1;
    std::string driver = "libcuda.so.1";
    std::vector<uint64_t> memory;  // bytes of each GPU, 0 for the whole
    int account = -1;              // the shared memory of the lease's account
    size_t slot = 0;               // this session's place in it
    std::string nvml;              // a library: this process reads NVML, and no CUDA
    std::string gpus;              // for NVML: which, and the slice of each
};

// `1024,2048`: MiB of each GPU, in the order in which the session numbers them.
std::vector<uint64_t> read_sizes(const char* text) {
    std::vector<uint64_t> sizes;
    for (char* end = nullptr; *text; text = *end == ',' ? end + 1 : end) {
        sizes.push_back(std::strtoull(text, &end, 10) << 20);
        if (end == text || (*end && *end != ',')) throw std::runtime_error("--memory-mib: a list of MiB is expected");
    }
    return sizes;
}

Arguments parse(int count, char** words) {
    Arguments arguments;
    for (int i = 1; i + 1 < count; i += 2) {
        const std::string name = words[i];
        if (name == "--socket") {
            arguments.socket = std::atoi(words[i + 1]);
        } else if (name == "--driver") {
            arguments.driver = words[i + 1];
        } else if (name == "--memory-mib") {
            arguments.memory = read_sizes(words[i + 1]);
        } else if (name == "--account") {
            arguments.account = std::atoi(words[i + 1]);
        } else if (name == "--nvml") {
            arguments.nvml = words[i + 1];
        } else if (name == "--gpus") {
            arguments.gpus = words[i + 1];
        } else if (name == "--slot") {
            arguments.slot = std::strtoull(words[i + 1], nullptr, 10);
        } else {
            throw std::runtime_error("unknown option " + name);
        }
    }
    if (arguments.socket < 0) {
        throw std::runtime_error(
            "usage: gpuferry-worker --socket FD [--driver PATH] [--memory-mib MIB,…] [--account FD --slot N] | "
            "--socket FD --nvml PATH --gpus GPU:MIB,…");
    }
    return arguments;
}

// For the daemon: the specification that this worker was generated from, and a line for each GPU: UUID, MiB,
// multiprocessors, name.
int describe(const std::string& path) {
    using gpuferry::worker::driver;
    gpuferry::worker::load_driver(path);
    if (const CUresult failure = driver.cuInit(0)) {
        throw std::runtime_error("cuInit failed with CUDA error " + std::to_string(failure));
    }
    int devices = 0;
    driver.cuDeviceGetCount(&devices);
    std::printf("%016llx\n", static_cast<unsigned long long>(gpuferry::specification_digest));
    for (int i = 0; i < devices; ++i) {
        CUdevice device = 0;
        CUuuid uuid{};
        size_t bytes = 0;
        int multiprocessors = 0;
        char name[256] = {};
        driver.cuDeviceGet(&device, i);
        driver.cuDeviceGetUuid(&uuid, device);
        driver.cuDeviceTotalMem_v2(&bytes, device);
        driver.cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
        driver.cuDeviceGetName(name, sizeof name, device);
        std::printf("GPU-");
        for (int at = 0; at < 16; ++at) {
            const bool dash = at == 4 || at == 6 || at == 8 || at == 10;
            std::printf(dash ? "-%02x" : "%02x", static_cast<unsigned char>(uuid.bytes[at]));
        }
        std::printf(" %zu %d %s\n", bytes >> 20, multiprocessors, name);
    }
    return 0;
}

}  // namespace

int main(int count, char** words) {
    try {
        if (count == 3 && std::strcmp(words[1], "--describe") == 0) return describe(words[2]);
        const Arguments arguments = parse(count, words);
#ifndef __SANITIZE_THREAD__  // which has that place itself
        if (arguments.nvml.empty()) gpuferry::worker::leave_programs_addresses(words);
#endif
        gpuferry::notice_silence(arguments.socket);
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // without the daemon nobody accounts for this session's memory
        if (!arguments.nvml.empty()) {
            gpuferry::worker::NvmlSession session(arguments.socket, arguments.nvml,
                                                  gpuferry::worker::parse_gpus(arguments.gpus));
            session.serve();
            return 0;
        }
        gpuferry::worker::load_driver(arguments.driver);
        gpuferry::worker::prepare_handlers();
        gpuferry::worker::Account account(arguments.account, arguments.slot);
        gpuferry::worker::Session session(arguments.socket, arguments.memory, account);
        session.serve();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "gpuferry-worker: %s\n", error.what());
        return 1;
    }
}
