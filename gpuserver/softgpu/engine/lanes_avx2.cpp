// Elementwise and memory handlers for x86-64 with AVX2, FMA and F16C.
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
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt")

#define SOFTGPU_TABLE avx2_handlers
#include "engine/elementwise.inc"

#include "engine/access.inc"

#pragma GCC pop_options
#endif
