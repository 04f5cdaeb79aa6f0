// Where both ends have the memory that has one address on both: far from where Linux puts programs, libraries, heaps
// and stacks, so that a client can have the addresses of its servers.
#pragma once

#include <cstdint>

namespace gpuferry {

struct AddressRange {
    uint64_t start = 0, end = 0;
};

#ifdef __SANITIZE_THREAD__
// ThreadSanitizer leaves little: the rest is its own (its runtime's tsan_platform.h).
constexpr AddressRange host_window{0x10'0000'0000, 0x20'0000'0000};
constexpr AddressRange device_windows[] = {{0x20'0000'0000, 0x70'0000'0000}};
#else
// Host memory's twins lie here: no driver and no loader of Linux puts anything there unasked.
constexpr AddressRange host_window{0x1800'0000'0000, 0x1900'0000'0000};
// Device memory. The first that the driver grants is taken.
constexpr AddressRange device_windows[] = {{0x2000'0000'0000, 0x5400'0000'0000}, {0x1000'0000'0000, 0x1800'0000'0000},
                                           {0x3000'0000'0000, 0x5400'0000'0000}, {0x4000'0000'0000, 0x5400'0000'0000},
                                           {0x0800'0000'0000, 0x1000'0000'0000}, {0x6000'0000'0000, 0x7000'0000'0000}};
#endif

}  // namespace gpuferry
