// Chooses the handlers compiled for this processor's instruction set.
#include <cstdlib>
#include <string_view>

#include "engine/handlers.h"
#include "engine/shape.h"

namespace softgpu {

namespace {

const HandlerTable& choose() {
#if defined(__x86_64__)
    // GPUFERRY_SOFTGPU_ISA=baseline|avx2 keeps to fewer instructions, for tests.
    const char* asked = std::getenv("GPUFERRY_SOFTGPU_ISA");
    const std::string_view isa = asked ? asked : "";
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") && isa != "baseline";
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vpopcntdq") && isa != "avx2";
    if (avx512) return avx512_handlers;
    if (avx2) return avx2_handlers;
#endif
    return baseline_handlers;
}

const HandlerTable& table() {
    static const HandlerTable& chosen = choose();
    return chosen;
}

}  // namespace

Handler find_elementwise(const Shape& shape) { return table().elementwise(shape); }

Handler find_access(const Access& access) {
    if (Handler h = table().access(access)) return h;
    return find_rare_access(access);
}

}  // namespace softgpu
