// kernels/core/fixed_point.h on the device: the same numbers as AddTerm, AddSum and ToDouble of
// kernels/api/reduce.h. Carries wait until the end, as each limb has room for 2^31 of them.
#pragma once

#include <cstdint>

#include "kernels/core/fixed_point.h"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth::cuda {

// As Normalize: the lower three limbs in [0, 2^32).
__device__ inline void Carry(FixedPointSum& sum) {
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    sum.limbs[i + 1] += sum.limbs[i] >> 32;
    sum.limbs[i] &= 0xffffffff;
  }
}

// Without a carry, up to 2^31 terms.
__device__ inline void AddTermLazily(FixedPointSum& sum, float term) {
  __extension__ using Int128 = __int128;
  const uint32_t bits = __float_as_uint(term);
  const int exponent_field = static_cast<int>((bits >> 23) & 0xffu);
  constexpr int kTooLarge = 127 + 62;
  if (exponent_field >= kTooLarge) {
    ++sum.not_representable;
    return;
  }
  const int exponent = exponent_field == 0 ? 1 : exponent_field;
  const int32_t significand =
      static_cast<int32_t>(bits & 0x7fffffu) | (exponent_field == 0 ? 0 : int32_t{1} << 23);
  const int32_t integer = bits >> 31 ? -significand : significand;
  const int shift = exponent - 150 + 64;
  const Int128 fixed =
      shift >= 0 ? static_cast<Int128>(integer) << shift : integer >> (shift < -31 ? 31 : -shift);
  const auto low = static_cast<uint64_t>(fixed);
  const auto high = static_cast<int64_t>(fixed >> 64);
  sum.limbs[0] += static_cast<int64_t>(low & 0xffffffff);
  sum.limbs[1] += static_cast<int64_t>(low >> 32);
  sum.limbs[2] += high & 0xffffffff;
  sum.limbs[3] += high >> 32;
}

// Adds the sums of a warp's lanes to *total, without a carry there. Integers, so that the order of
// warps changes nothing.
__device__ inline void AddWarpAtomically(FixedPointSum sum, FixedPointSum* total) {
  const auto add_lanes = [](int64_t& word) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      word += __shfl_xor_sync(kAllLanes, word, offset);
    }
  };
#pragma unroll
  for (int i = 0; i < 4; ++i) add_lanes(sum.limbs[i]);
  add_lanes(sum.not_representable);
  Carry(sum);
  if (threadIdx.x % kWarp != 0) return;
  const auto add = [](int64_t* to, int64_t word) {
    if (word != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(word));
    }
  };
#pragma unroll
  for (int i = 0; i < 4; ++i) add(&total->limbs[i], sum.limbs[i]);
  add(&total->not_representable, sum.not_representable);
}

// NaN when a term was not representable.
__device__ inline double ToDouble(FixedPointSum sum) {
  if (sum.not_representable != 0) return __longlong_as_double(0x7ff8000000000000);
  Carry(sum);
  const bool negative = sum.limbs[3] < 0;
  if (negative) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.limbs[i] = -sum.limbs[i];
    Carry(sum);
  }
  const uint64_t words[3] = {static_cast<uint64_t>(sum.limbs[0] | sum.limbs[1] << 32),
                             static_cast<uint64_t>(sum.limbs[2] | sum.limbs[3] << 32),
                             static_cast<uint64_t>(sum.limbs[3]) >> 32};
  // The leading 64 bits, the rest gathered in the lowest one, so that the conversion rounds once.
  const int top = words[2] != 0 ? 2 : words[1] != 0 ? 1 : 0;
  uint64_t leading = words[0];
  int exponent = -64;
  if (top > 0) {
    const uint64_t high = words[top];
    const uint64_t low = words[top - 1];
    const int shift = __clzll(static_cast<long long>(high));
    leading = shift == 0 ? high : high << shift | low >> (64 - shift);
    const bool rest = low << shift != 0 || (top == 2 && words[0] != 0);
    leading |= static_cast<uint64_t>(rest);
    exponent = 64 * (top - 1) - shift;
  }
  const double magnitude = ldexp(__ull2double_rn(leading), exponent);
  return negative ? -magnitude : magnitude;
}

}  // namespace hearth::cuda
