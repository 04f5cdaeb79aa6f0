// Options of the just-in-time compiler on their way to the server, and its texts on their way back.
#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "call.h"

namespace gpuferry {

// The option values that are addresses stay here; the worker's texts come back into the program's buffers.
struct JitOptions {
    char *info = nullptr, *error = nullptr;
    size_t info_size = 0, error_size = 0;
    void **info_length = nullptr, **error_length = nullptr, **wall_time = nullptr;

    void put(Call& call, unsigned count, const CUjit_option* names, void** values) {
        std::vector<std::pair<int64_t, uint64_t>> plain;
        for (unsigned i = 0; i < count; ++i) {
            const auto number = reinterpret_cast<uint64_t>(values[i]);
            switch (names[i]) {
                case CU_JIT_INFO_LOG_BUFFER:
                    info = static_cast<char*>(values[i]);
                    continue;
                case CU_JIT_ERROR_LOG_BUFFER:
                    error = static_cast<char*>(values[i]);
                    continue;
                case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                    info_length = &values[i];
                    info_size = static_cast<uint32_t>(number);
                    break;
                case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                    error_length = &values[i];
                    error_size = static_cast<uint32_t>(number);
                    break;
                case CU_JIT_WALL_TIME:
                    wall_time = &values[i];
                    break;
                default:
                    break;
            }
            plain.emplace_back(names[i], number);
        }
        call.value<uint64_t>(plain.size());
        for (const auto& [name, value] : plain) {
            call.value<int64_t>(name);
            call.value<uint64_t>(value);
        }
    }

    static void give_text(std::string_view text, char* place, size_t size, void** length) {
        const size_t part = size ? std::min(text.size(), size - 1) : 0;
        if (place && size) {
            std::memcpy(place, text.data(), part);
            place[part] = 0;
        }
        if (length) *length = reinterpret_cast<void*>(part);
    }
    void take(Decoder& results) const {
        give_text(results.take_text(), info, info_size, info_length);
        give_text(results.take_text(), error, error_size, error_length);
        const auto time = results.take<uint64_t>();
        if (wall_time) std::memcpy(wall_time, &time, sizeof(float));
    }
};

}  // namespace gpuferry
