// Options of cuModuleLoadDataEx, cuLibraryLoadData, cuLinkCreate: what they ask for, and where the answers go.
#pragma once

#include <chrono>
#include <string_view>

#include "device/cuda_types.h"

namespace softgpu {

// The program's arrays must live as long as this (CUDA asks that of cuLinkCreate too).
class JitOptions {
  public:
    JitOptions() = default;
    // Throws INVALID_VALUE for options that do not exist and for NULL arrays.
    JitOptions(unsigned count, CUjit_option* options, void** values);

    // CU_JIT_MAX_REGISTERS; 0: no limit.
    [[nodiscard]] unsigned max_registers() const { return max_registers_; }

    // Appends a line to the information or the error log, as far as the program's buffer has room, NUL-terminated.
    void inform(std::string_view line);
    void complain(std::string_view line);
    // Writes the sizes and the time since construction that the program asked for.
    void finish();

  private:
    struct Log {
        char* buffer = nullptr;
        unsigned capacity = 0, used = 0;
        void** size_slot = nullptr;
        void append(std::string_view line);
        void finish();
    };
    Log info_, error_;
    unsigned max_registers_ = 0;
    void** wall_time_ = nullptr;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace softgpu
