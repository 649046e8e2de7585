// FP8: E4M3 (bias 7, no infinity, NaN = S.1111.111, largest 448) and E5M2 (bias 15, IEEE-like,
// largest 57344), as in "FP8 Formats for Deep Learning" (arXiv 2209.05433). Conversions saturate:
// what exceeds the largest finite value becomes that value; NaN stays NaN.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/core/host_device.h"

namespace hearth {

struct Float8E4M3 {
  uint8_t bits = 0;
  bool operator==(const Float8E4M3&) const = default;
};
struct Float8E5M2 {
  uint8_t bits = 0;
  bool operator==(const Float8E5M2&) const = default;
};

constexpr float kE4M3Max = 448.0f;
constexpr float kE5M2Max = 57344.0f;

// What the two formats share: a magnitude of kMantissaBits explicit bits below an exponent.
template <int kMantissaBits, int kBias, uint32_t kLargest, uint32_t kNan>
struct Float8Codec {
  // The magnitude bits (without sign) of |value| rounded with `addend` in place of one half unit in
  // the last place: Nearest passes half minus one plus the last kept bit; Stochastic random bits.
  // Subnormals are rounded at their fixed spacing.
  HEARTH_HOST_DEVICE static constexpr uint8_t Encode(float value, bool stochastic,
                                                     uint32_t random) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 24) & 0x80u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | kNan);
    if (magnitude == 0x7f800000u) return static_cast<uint8_t>(sign | kLargest);
    const int exponent = static_cast<int>(magnitude >> 23) - 127;
    constexpr int kSmallestNormal = 1 - kBias;
    // significand * 2^(exponent - 23); an FP32 subnormal is far below every FP8 value.
    const uint64_t significand = magnitude >> 23 ? (magnitude & 0x7fffffu) | 0x800000u
                                                 : static_cast<uint64_t>(magnitude) << 1;
    const int effective = exponent < kSmallestNormal ? kSmallestNormal : exponent;
    // Bits to discard so that the rest counts units of 2^(effective - kMantissaBits).
    int discard = 23 - kMantissaBits + (effective - exponent);
    // 40 positions below are enough for every probability that 32 random bits can express.
    if (discard > 56) discard = 56;
    const uint64_t unit = uint64_t{1} << discard;
    uint64_t addend = 0;
    if (stochastic) {
      addend = discard <= 32 ? static_cast<uint64_t>(random) >> (32 - discard)
                             : static_cast<uint64_t>(random) << (discard - 32);
    } else {
      addend = (unit >> 1) - 1 + ((significand >> discard) & 1u);
    }
    const uint64_t units = (significand + addend) >> discard;
    // Normal numbers carry the implicit bit, which the exponent field's base of one absorbs.
    const uint64_t encoded =
        (static_cast<uint64_t>(effective - kSmallestNormal) << kMantissaBits) + units;
    return static_cast<uint8_t>(sign | (encoded > kLargest ? kLargest : encoded));
  }

  HEARTH_HOST_DEVICE static constexpr float Decode(uint8_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
    const uint32_t magnitude = bits & 0x7fu;
    if (magnitude > kLargest) {
      // E5M2 has one infinity, the pattern right above its largest number; the rest are NaN.
      const bool infinite = kMantissaBits == 2 && magnitude == kLargest + 1;
      return std::bit_cast<float>(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
    }
    const uint32_t exponent = magnitude >> kMantissaBits;
    const uint32_t mantissa = magnitude & ((1u << kMantissaBits) - 1u);
    if (exponent == 0) {
      // mantissa * 2^(1 - bias - mantissa bits), exact in FP32.
      const uint32_t spacing = static_cast<uint32_t>(127 + 1 - kBias - kMantissaBits) << 23;
      const float value = static_cast<float>(mantissa) * std::bit_cast<float>(spacing);
      return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
    }
    return std::bit_cast<float>(sign | ((exponent + 127 - kBias) << 23) |
                                (mantissa << (23 - kMantissaBits)));
  }
};

using E4M3Codec = Float8Codec<3, 7, 0x7e, 0x7f>;
using E5M2Codec = Float8Codec<2, 15, 0x7b, 0x7f>;

HEARTH_HOST_DEVICE constexpr float ToFloat(Float8E4M3 value) {
  return E4M3Codec::Decode(value.bits);
}
HEARTH_HOST_DEVICE constexpr float ToFloat(Float8E5M2 value) {
  return E5M2Codec::Decode(value.bits);
}

// Round to nearest, ties to even, saturating.
HEARTH_HOST_DEVICE constexpr Float8E4M3 ToE4M3(float value) {
  return {E4M3Codec::Encode(value, false, 0)};
}
HEARTH_HOST_DEVICE constexpr Float8E5M2 ToE5M2(float value) {
  return {E5M2Codec::Encode(value, false, 0)};
}

// Stochastic rounding with 32 random bits, saturating.
HEARTH_HOST_DEVICE constexpr Float8E4M3 ToE4M3Stochastic(float value, uint32_t random) {
  return {E4M3Codec::Encode(value, true, random)};
}
HEARTH_HOST_DEVICE constexpr Float8E5M2 ToE5M2Stochastic(float value, uint32_t random) {
  return {E5M2Codec::Encode(value, true, random)};
}

}  // namespace hearth
