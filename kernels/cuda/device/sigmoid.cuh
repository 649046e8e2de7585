// The logistic function as accurate as the storage type of what is made from it.
#pragma once

#include "kernels/core/bfloat16.h"

namespace hearth::cuda {

// 1 / (1 + e^-x). For float: relative error of a few units of 2^-24. For BFloat16: below
// (|x| + 6) * 2^-24, at most 2^-17 where the result is a normal number, against the 2^-9 of the
// rounding that follows, in four instructions instead of some fifteen. Both give 0 where e^-x
// overflows (x < -88.7) and NaN for NaN.
template <typename T>
__device__ float Sigmoid(float x);

template <>
__device__ inline float Sigmoid<float>(float x) {
  return __fdiv_rn(1.0f, __fadd_rn(1.0f, expf(-x)));
}

template <>
__device__ inline float Sigmoid<BFloat16>(float x) {
  constexpr float kMinusLog2E = -1.44269504088896341f;
  float power;
  float reciprocal;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(__fmul_rn(x, kMinusLog2E)));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(__fadd_rn(1.0f, power)));
  return reciprocal;
}

}  // namespace hearth::cuda
