// e^x in fp32 without branches or library calls: loops over it vectorise, and its bits are the same
// with every C library.
#pragma once

#include <bit>
#include <cstdint>

namespace hearth {

// Relative error below 2^-22 where the result is a normal number; 0 below -104, infinity above
// 88.73; NaN stays NaN. Range reduction with ln 2 in two parts (Cody and Waite), then the
// polynomial of degree 7 of e^r on |r| <= ln(2)/2.
inline float Exp(float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // nine bits: exact in products with the exponent
  constexpr float kLn2Low = -2.12194440054690583e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  // |x| at most 105, NaN excepted; by integers, because comparisons of floats, which may trap, keep
  // loops from being vectorised.
  constexpr uint32_t kLargest = std::bit_cast<uint32_t>(105.0f);
  constexpr uint32_t kInfinity = 0x7f800000u;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const bool beyond = magnitude > kLargest && magnitude <= kInfinity;
  const float clamped =
      std::bit_cast<float>((bits & 0x80000000u) | (beyond ? kLargest : magnitude));
  const float shifted = clamped * kLog2E + kRound;
  const float exponent = shifted - kRound;
  const float r = (clamped - exponent * kLn2High) - exponent * kLn2Low;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  // 2^exponent in two factors: the exponent reaches 128 and falls below -126.
  const int32_t n = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const int32_t half = n >> 1;
  const float scale1 = std::bit_cast<float>((half + 127) << 23);
  const float scale2 = std::bit_cast<float>((n - half + 127) << 23);
  return p * scale1 * scale2;
}

}  // namespace hearth
