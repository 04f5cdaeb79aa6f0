#include "image/jit_options.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "device/error.h"

namespace softgpu {

JitOptions::JitOptions(unsigned count, CUjit_option* options, void** values) {
    check_value(count == 0 || (options && values), "JIT options without their array");
    for (unsigned i = 0; i < count; ++i) {
        auto number = static_cast<unsigned>(reinterpret_cast<uintptr_t>(values[i]));
        switch (options[i]) {
            case CU_JIT_INFO_LOG_BUFFER:
                info_.buffer = static_cast<char*>(values[i]);
                break;
            case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                info_.capacity = number;
                info_.size_slot = &values[i];
                break;
            case CU_JIT_ERROR_LOG_BUFFER:
                error_.buffer = static_cast<char*>(values[i]);
                break;
            case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                error_.capacity = number;
                error_.size_slot = &values[i];
                break;
            case CU_JIT_MAX_REGISTERS:
                max_registers_ = number;
                break;
            case CU_JIT_WALL_TIME:
                wall_time_ = &values[i];
                break;
            case CU_JIT_OPTIMIZATION_LEVEL:
                check_value(number <= 4, "CU_JIT_OPTIMIZATION_LEVEL is more than 4");
                break;
            default:
                // The others steer machine code; there is none.
                check_value(options[i] >= 0 && options[i] < CU_JIT_NUM_OPTIONS, "unknown JIT option");
        }
    }
}

void JitOptions::Log::append(std::string_view line) {
    if (!buffer || capacity == 0) return;
    size_t room = capacity - 1 - std::min(used, capacity - 1);
    size_t taken = std::min(room, line.size());
    std::memcpy(buffer + used, line.data(), taken);
    used += static_cast<unsigned>(taken);
    if (taken < room) buffer[used++] = '\n';
    buffer[used] = '\0';
}

void JitOptions::Log::finish() {
    if (buffer && capacity > 0 && used == 0) buffer[0] = '\0';
    if (size_slot) *size_slot = reinterpret_cast<void*>(uintptr_t{used});
}

void JitOptions::inform(std::string_view line) {
    info_.append(line);
}
void JitOptions::complain(std::string_view line) {
    error_.append(line);
}

void JitOptions::finish() {
    info_.finish();
    error_.finish();
    if (wall_time_) {
        std::chrono::duration<float, std::milli> elapsed = std::chrono::steady_clock::now() - start_;
        float milliseconds = elapsed.count();
        std::memcpy(wall_time_, &milliseconds, sizeof milliseconds);
    }
}

}  // namespace softgpu
