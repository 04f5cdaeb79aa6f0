// Options of the driver's just-in-time compiler, as the client sent them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "request.h"

namespace gpuferry::worker {

// JIT options travel as numbers; the log buffers are the worker's, and their text goes back.
struct JitOptions {
    std::vector<CUjit_option> names;
    std::vector<void*> values;
    std::vector<char> info, error;
    int wall_time = -1;  // index of CU_JIT_WALL_TIME, which the driver overwrites

    explicit JitOptions(Request& in) {
        const auto count = in.value<uint64_t>();
        if (count > 64) in.fields().spoil();
        for (uint64_t i = 0; in.good() && i < count; ++i) {
            const auto name = static_cast<CUjit_option>(in.value<int64_t>());
            const auto value = in.value<uint64_t>();
            // The buffers and their sizes come as the pair of sizes alone.
            if (name == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES) {
                add_buffer(info, value, CU_JIT_INFO_LOG_BUFFER, name);
            } else if (name == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
                add_buffer(error, value, CU_JIT_ERROR_LOG_BUFFER, name);
            } else {
                if (name == CU_JIT_WALL_TIME) wall_time = static_cast<int>(names.size());
                names.push_back(name);
                values.push_back(reinterpret_cast<void*>(value));
            }
        }
    }
    void add_buffer(std::vector<char>& buffer, uint64_t size, CUjit_option place, CUjit_option length) {
        buffer.resize(std::min<uint64_t>(size, 1u << 20) + 1);
        names.insert(names.end(), {place, length});
        values.push_back(buffer.data());
        values.push_back(reinterpret_cast<void*>(buffer.size() - 1));
    }
    void put_results(Encoder& answer) const {
        answer.put_text(info.empty() ? "" : info.data());
        answer.put_text(error.empty() ? "" : error.data());
        uint32_t time = 0;
        if (wall_time >= 0) std::memcpy(&time, &values[static_cast<size_t>(wall_time)], sizeof time);
        answer.put<uint64_t>(time);
    }
    [[nodiscard]] unsigned count() const { return static_cast<unsigned>(names.size()); }
};

}  // namespace gpuferry::worker
