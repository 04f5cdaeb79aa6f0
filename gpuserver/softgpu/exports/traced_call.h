// One line on stderr for each call that came through cuGetProcAddress, when GPUFERRY_SOFTGPU_TRACE is set:
// `cuMemAlloc_v2(dptr=0x7ffd…, bytesize=4096) = 0`. Nested calls are not seen: only what the program asked for.
#pragma once

#include <cuda.h>

#include <cstdio>
#include <string>
#include <type_traits>

#include "exports/caller.h"
#include "log.h"

namespace softgpu {

class TracedCall {
  public:
    // `returns_to`: the return address of the traced function, so its caller's.
    TracedCall(const char* symbol, const void* returns_to) : line_(symbol) {
        line_ += '(';
        note_traced_caller(returns_to);
    }

    template <class T>
    void add(const char* name, const T& value) {
        if constexpr (std::is_same_v<T, const char*>) {
            add_text(name, value ? value : "NULL");
        } else if constexpr (std::is_pointer_v<T>) {
            add_number(name, "0x%llx", reinterpret_cast<unsigned long long>(value));
        } else if constexpr (std::is_floating_point_v<T>) {
            add_real(name, static_cast<double>(value));
        } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
            auto number = static_cast<unsigned long long>(value);
            add_number(name, number > 0xffffffffull ? "0x%llx" : "%llu", number);
        } else {
            add_text(name, "{...}");
        }
    }

    CUresult end(CUresult result);

  private:
    void add_number(const char* name, const char* format, unsigned long long value);
    void add_real(const char* name, double value);
    void add_text(const char* name, const char* text);

    std::string line_;
};

}  // namespace softgpu
