// PTX's arithmetic as plain inline functions: what one lane computes. No memory, no registers, no control flow.
//
// Overloads and templates are uniform, so that a handler can be instantiated over operand types:
//     add<Rounding::rn, Ftz, Sat>(a, b)   with a, b: float, double, f16, bf16, f16x2, bf16x2, f32x2
//     cvt<To, Rounding, Ftz, Sat>(a)      with To and a: any integer type, float, double, f16, bf16
// Integers are the C++ fixed-width types (the PTX type decides signedness); packed values are structs around their
// bits.
//
// | file        | subject                                                                                            |
// |-------------|----------------------------------------------------------------------------------------------------|
// | types.h     | Rounding, Comparison, f16, bf16, the packed types, bit casts, the NaN rules | | rounding.h  |
// directed rounding: double to float, round-to-odd, the rounding-mode scope for double               | | float32.h   |
// f32 and f32x2: add sub mul fma div rcp sqrt (+ approx/full forms of div), abs neg, ftz, sat           | | float64.h
// | f64: add sub mul fma div rcp sqrt, abs neg                                                          | | half.h |
// f16, bf16, f16x2, bf16x2: widen, narrow, add sub mul fma (+ relu), abs neg                             | | minmax.h
// | floating min/max: NaN, .NaN, .xorsign.abs, three operands, all float types                             | |
// compare.h   | setp/set comparisons (ordered, unordered, num, nan), set's result, testp, copysign | | integer.h   |
// add.sat mul mul24 mad sad div rem abs neg min max, s16x2/u16x2, carry chains, dp2a dp4a                | | bits.h |
// popc clz brev bfind fns bfe bfi bmsk szext prmt lop3 shf shl shr                                     | | convert.h |
// cvt between integers, f16, bf16, f32, f64; cvt.pack                                                     | | narrow.h
// | cvt to/from tf32, f16x2, bf16x2 (with .relu, .satfinite, .rs) and the 8, 6 and 4-bit floats               | |
// special.h   | the .approx functions: sin cos ex2 lg2 tanh rcp rsqrt sqrt, and those of f16/bf16/f64 |
//
// Compile with -ffp-contract=off. -fno-math-errno -fno-trapping-math are safe and let GCC vectorise sqrt, rint and
// selects. Every function is always_inline, or static where it must not be inlined: translation units built for
// different instruction sets can include these headers without sharing code. Do not set FTZ/DAZ in MXCSR.
#pragma once

#include "engine/arithmetic/bits.h"
#include "engine/arithmetic/compare.h"
#include "engine/arithmetic/convert.h"
#include "engine/arithmetic/float32.h"
#include "engine/arithmetic/float64.h"
#include "engine/arithmetic/half.h"
#include "engine/arithmetic/integer.h"
#include "engine/arithmetic/minmax.h"
#include "engine/arithmetic/narrow.h"
#include "engine/arithmetic/special.h"
#include "engine/arithmetic/video.h"
