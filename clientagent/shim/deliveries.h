// What arrives ahead of the reply that makes it visible: posted device-to-host copies, text that the device printed.
#pragma once

#include <cstdint>
#include <span>

#include "wire.h"

namespace gpuferry {

struct Server;

// Called by whichever thread reads replies.
void deliver(const Server& server, Delivery kind, std::span<const char> payload);

// A posted copy will bring `size` bytes for `place`; returns the number it is known by.
uint64_t expect_copy(void* place, size_t size);
// The same for a copy of `rows` rows of `width` bytes each, `pitch` bytes apart, which arrive packed.
uint64_t expect_rows(void* place, size_t width, size_t pitch, size_t rows);
// The copy was not posted after all.
void forget_copy(uint64_t number);
// The memory is about to go: what was to come there goes nowhere.
void forget_copies(const void* place, size_t size);
// Whether a posted copy into any of these bytes has not arrived yet.
bool copy_pending(const void* place, size_t size);

}  // namespace gpuferry
