#include "deliveries.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "host_functions.h"
#include "twins.h"

namespace gpuferry {
namespace {

// Bytes that arrive packed, for rows of `width` bytes that lie `pitch` bytes apart.
struct Expected {
    char* place = nullptr;
    size_t width = 0, pitch = 0;
    size_t size = 0, left = 0;  // of all rows; not yet here

    void fill(size_t offset, const char* bytes, size_t count) const {
        for (size_t done = 0, part = 0; done < count; done += part) {
            const size_t in_row = (offset + done) % width;
            part = std::min(width - in_row, count - done);
            std::memcpy(place + (offset + done) / width * pitch + in_row, bytes + done, part);
        }
    }
    [[nodiscard]] bool meets(const char* start, size_t count) const {
        const size_t extent = (size / width - 1) * pitch + width;
        return place < start + count && start < place + extent;
    }
};

std::mutex lock;
uint64_t last_number = 0;

std::map<uint64_t, Expected>& expected() {
    static auto* all = new std::map<uint64_t, Expected>;
    return *all;
}

// Only bytes that this client asked for go anywhere, and only to where it asked.
void place_copy(Decoder fields) {
    const auto number = fields.take<uint64_t>();
    const auto offset = fields.take<uint64_t>();
    const auto size = fields.take<uint64_t>();
    const char* bytes = fields.take_bytes(size);
    const std::lock_guard held(lock);
    const auto found = expected().find(number);
    if (!bytes || found == expected().end()) return;
    Expected& copy = found->second;
    if (offset > copy.size || size > copy.size - offset || size > copy.left) return;
    copy.fill(offset, bytes, size);
    copy.left -= size;
    if (copy.left == 0) expected().erase(found);
}

// The device's text goes to this process's standard output, in order with what it has printed itself.
void print(Decoder fields, FILE* stream) {
    const std::string_view text = fields.take_text();
    std::fwrite(text.data(), 1, text.size(), stream);
    std::fflush(stream);
}

}  // namespace

uint64_t expect_copy(void* place, size_t size) {
    return expect_rows(place, size, size, 1);
}

uint64_t expect_rows(void* place, size_t width, size_t pitch, size_t rows) {
    const std::lock_guard held(lock);
    expected()[++last_number] = {static_cast<char*>(place), width, pitch, width * rows, width * rows};
    return last_number;
}

void forget_copy(uint64_t number) {
    const std::lock_guard held(lock);
    expected().erase(number);
}

void forget_copies(const void* place, size_t size) {
    const std::lock_guard held(lock);
    const auto* start = static_cast<const char*>(place);
    std::erase_if(expected(), [&](const auto& entry) { return entry.second.meets(start, size); });
}

bool copy_pending(const void* place, size_t size) {
    const std::lock_guard held(lock);
    const auto* start = static_cast<const char*>(place);
    for (const auto& [number, copy] : expected()) {
        if (copy.meets(start, size)) return true;
    }
    return false;
}

void deliver(const Server& server, Delivery kind, std::span<const char> payload) {
    switch (kind) {
        case Delivery::copied:
            return place_copy(Decoder(payload));
        case Delivery::output:
            return print(Decoder(payload), stdout);
        case Delivery::error_output:
            return print(Decoder(payload), stderr);
        case Delivery::pages: {
            Decoder fields(payload);
            const auto address = fields.take<uint64_t>();
            const auto size = fields.take<uint64_t>();
            const char* bits = fields.take_bytes(ChangedBytes::wire_size(size));
            const char* bytes = fields.take_bytes(size);
            ChangedBytes changed;
            if (bytes && changed.read(bits, size)) apply_device_changes(server, address, changed, {bytes, size});
            return;
        }
        case Delivery::host_function:
            return run_host_function(server, Decoder(payload).take<uint64_t>());
    }
}

}  // namespace gpuferry
