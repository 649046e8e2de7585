// bfloat16: the upper half of an IEEE binary32. Conversions are bit-exact on host and device.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/core/host_device.h"

namespace hearth {

struct BFloat16 {
  uint16_t bits = 0;
  bool operator==(const BFloat16&) const = default;
};

HEARTH_HOST_DEVICE constexpr float ToFloat(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
HEARTH_HOST_DEVICE constexpr float ToFloat(float value) { return value; }

// Round to nearest, ties to even; overflow to infinity; a NaN stays a (quiet) NaN of its sign.
HEARTH_HOST_DEVICE constexpr BFloat16 ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Stochastic rounding with 16 random bits (the low half of `random`): rounds away from zero with a
// probability equal to the discarded fraction. Infinities and NaNs as in ToBFloat16; a finite value
// never becomes infinite.
HEARTH_HOST_DEVICE constexpr BFloat16 ToBFloat16Stochastic(float value, uint32_t random) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return ToBFloat16(value);
  const uint32_t rounded = bits + (random & 0xffffu);
  if ((rounded & 0x7f800000u) == 0x7f800000u) return {static_cast<uint16_t>(bits >> 16)};
  return {static_cast<uint16_t>(rounded >> 16)};
}

}  // namespace hearth
