// Elementwise and memory handlers for any processor of the architecture.
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "engine/context.h"
#include "engine/shape.h"

#define SOFTGPU_TABLE baseline_handlers
#include "engine/elementwise.inc"

#include "engine/access.inc"
