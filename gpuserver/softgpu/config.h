// Which devices the software GPU pretends to have: shared by libcuda.so.1 and libnvidia-ml.so.1, so that they agree.
//
// From the file that GPUFERRY_SOFTGPU_CONFIG names, and from single environment variables, which win:
//
//     [driver]
//     devices = 2                     GPUFERRY_SOFTGPU_DEVICES
//     version = 13050                 GPUFERRY_SOFTGPU_VERSION       what cuDriverGetVersion says
//     release = 615.71                GPUFERRY_SOFTGPU_RELEASE       what NVML calls the driver version
//     [device]                        every device, unless it has a section [device N] of its own
//     name = gpuferry Software GPU    GPUFERRY_SOFTGPU_NAME
//     memory_mib = 4096               GPUFERRY_SOFTGPU_MEMORY_MIB
//     multiprocessors = 8             GPUFERRY_SOFTGPU_MULTIPROCESSORS
//     compute_capability = 12.1       GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY
//     runtime_compute_capability = 99.0   GPUFERRY_SOFTGPU_RUNTIME_COMPUTE_CAPABILITY   what CUDA runtimes are told
//     clock_mhz = 1000                GPUFERRY_SOFTGPU_CLOCK_MHZ
//     memory_clock_mhz = 1000         GPUFERRY_SOFTGPU_MEMORY_CLOCK_MHZ
//     [device 1]
//     uuid = GPU-6e5b…                GPUFERRY_SOFTGPU_UUID
//     pci = 0000:41:00                GPUFERRY_SOFTGPU_PCI
//     serial = 1650522003820          GPUFERRY_SOFTGPU_SERIAL
//
// A variable of a device may hold a comma-separated list, one value a device; a single value goes for all.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace softgpu {

struct DeviceConfig {
    int index = 0;  // among all configured devices
    std::string name = "gpuferry Software GPU";
    std::array<uint8_t, 16> uuid{};  // default: made of this machine's id and the index
    std::string serial;
    uint64_t memory_bytes = uint64_t{4096} << 20;
    int pci_domain = 0, pci_bus = 0, pci_device = 0;
    // The newest that toolkits know: compilers and linkers ask the driver and have no name for a newer one
    // (numba-cuda's linker fails). All PTX that toolkits carry runs on it; machine code is passed over whatever it is
    // for.
    int capability_major = 12, capability_minor = 1;
    // What the CUDA runtime is told, newer than any library knows: libraries ask the runtime, and those that pick one
    // architecture's machine code themselves (cuRAND) give their PTX only to a device that they do not know. Follows
    // compute_capability where that is set.
    int runtime_capability_major = 99, runtime_capability_minor = 0;
    bool runtime_capability_set = false;
    int multiprocessors = 1;  // default: this machine's processors
    int clock_khz = 1'000'000, memory_clock_khz = 1'000'000;
};

struct Config {
    int driver_version = 13050;
    std::string driver_release = "615.71";
    std::vector<DeviceConfig> devices;
};

// What is wrong in the configuration, with file and line or the variable's name.
struct ConfigError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using Environment = std::map<std::string, std::string, std::less<>>;

// `text` is the content of the file `source`. Throws ConfigError.
Config parse_config(std::string_view text, const std::string& source, const Environment& environment);

// This process's configuration, read once. What is wrong with it is logged; then there is no device.
const Config& config();

// The devices that CUDA_VISIBLE_DEVICES leaves, in its order: indices or beginnings of UUIDs ("GPU-6e5b"), up to the
// first that names no device; none when one is named twice.
std::vector<DeviceConfig> select_visible(const std::vector<DeviceConfig>& all, const std::string* wanted);
const std::vector<DeviceConfig>& visible_devices();

// "GPU-01234567-89ab-cdef-0123-456789abcdef"
std::string format_uuid(const std::array<uint8_t, 16>& uuid);
// "0000:41:00.0"
std::string format_pci_bus_id(const DeviceConfig& device);

}  // namespace softgpu
