// Elementwise and memory handlers for x86-64 with AVX-512 (F, BW, DQ, VL, VPOPCNTDQ).
#if defined(__x86_64__)
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "engine/context.h"
#include "engine/shape.h"

// The standard headers are read before: their inline functions must stay common to all processors.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vpopcntdq,avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt,prefer-vector-width=512")

#define SOFTGPU_TABLE avx512_handlers
#include "engine/elementwise.inc"

#include "engine/access.inc"

#pragma GCC pop_options
#endif
