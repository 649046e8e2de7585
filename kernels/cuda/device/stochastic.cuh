// Stochastic rounding of a cell: the draws of kernels/core/philox.h and the bits of
// ToBFloat16Stochastic, in fewer instructions.
#pragma once

#include "kernels/core/philox.h"
#include "kernels/cuda/device/cell.cuh"

namespace hearth::cuda {

// Philox4x32 of N counters side by side: one schedule of keys, and what counters have in common is
// computed once.
template <int N>
__device__ inline void PhiloxSideBySide(uint64_t key, uint32_t (&counters)[N][4]) {
  auto key0 = static_cast<uint32_t>(key);
  auto key1 = static_cast<uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      uint32_t(&counter)[4] = counters[i];
      const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
      const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
      counter[0] = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
      counter[1] = static_cast<uint32_t>(product1);
      counter[2] = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
      counter[3] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// The larger of a and |b|, or NaN.
__device__ inline float LargerMagnitude(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(fabsf(b)));
  return larger;
}

// `low`, `high`: the draws of elements 0 to 3 and of elements 4 to 7.
__device__ inline Cell<BFloat16> RoundStochastically(const float (&values)[kCell],
                                                     const uint32_t (&low)[4],
                                                     const uint32_t (&high)[4]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kCell; ++i) largest = LargerMagnitude(largest, values[i]);
  Cell<BFloat16> cell;
  const auto draw = [&](int i) { return i < 4 ? low[i] : high[i - 4]; };
  // Up to here the random bits make nothing infinite, and there is no infinity and no NaN.
  if (largest <= 0x1.fep127f) {
#pragma unroll
    for (int i = 0; i < kCell; i += 2) {
      const uint32_t first = __float_as_uint(values[i]) + (draw(i) & 0xffffu);
      const uint32_t second = __float_as_uint(values[i + 1]) + (draw(i + 1) & 0xffffu);
      cell.words[i / 2] = __byte_perm(first, second, 0x7632);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCell; i += 2) {
      const uint32_t first = ToBFloat16Stochastic(values[i], draw(i)).bits;
      const uint32_t second = ToBFloat16Stochastic(values[i + 1], draw(i + 1)).bits;
      cell.words[i / 2] = first | second << 16;
    }
  }
  return cell;
}

}  // namespace hearth::cuda
