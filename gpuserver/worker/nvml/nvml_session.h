// Reads NVML for one client process, in a process of its own: what a hostile client makes the library do stays here.
#pragma once

#include <string>
#include <vector>

#include "nvml_request.h"
#include "transport.h"

namespace gpuferry::worker {

// One GPU of the lease: its place in NVML's order, or its UUID, and the slice in bytes (0: all of it).
struct NvmlGpu {
    std::string name;
    uint64_t slice = 0;
    nvmlDevice_t handle = nullptr;
};

// `ORDINAL:MIB,ORDINAL:MIB,…`, or a UUID for an ordinal. Raises std::runtime_error.
std::vector<NvmlGpu> parse_gpus(const std::string& text);

class NvmlSession {
  public:
    NvmlSession(int descriptor, std::string library, std::vector<NvmlGpu> gpus)
        : gpus(std::move(gpus)), library_(std::move(library)), connection_(descriptor) {}

    // Serves until the client is gone. Raises TransportError.
    void serve();
    // Loads the library, initialises it and finds the GPUs. Fills in `why` where it fails.
    nvmlReturn_t open(std::string& why);

    std::vector<NvmlGpu> gpus;

  private:
    std::string library_;
    Connection connection_;
};

}  // namespace gpuferry::worker
