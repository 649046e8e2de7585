#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace hearth {

namespace {

constexpr int64_t kSumBlock = 4096;
// Interleaved partial results, whatever the width of the machine's vectors.
constexpr int64_t kLanes = 16;

using Lanes = std::array<float, kLanes>;

// e^x for x of at most 88, with a relative error of 2^-22; 0 below -87; NaN stays NaN. As Exp of
// kernels/cpu/exp.h (reduction by ln 2 in two parts, the power series), with half of its work: no
// argument comes near overflow, and a result below the normal numbers is 0.
inline float ExpUpTo88(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  p = p + 1.0f;
  // Far below -87 the exponent is garbage, and not used.
  const uint32_t exponent =
      std::bit_cast<uint32_t>(shifted) - (std::bit_cast<uint32_t>(kRound) - 127u);
  const float result = p * std::bit_cast<float>(exponent << 23);
  return x < -87.0f ? 0.0f : result;
}

float ExpBlock(float* values, int64_t count, float shift) {
  Lanes sums{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = ExpUpTo88(values[i + lane] - shift);
      values[i + lane] = value;
      sums[lane] += value;
    }
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) {
    values[i] = ExpUpTo88(values[i] - shift);
    sums[lane] += values[i];
  }
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

}  // namespace

float MaxOf(const float* values, int64_t count) {
  Lanes largest;
  largest.fill(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = values[i + lane] > largest[lane] ? values[i + lane] : largest[lane];
    }
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) {
    largest[lane] = values[i] > largest[lane] ? values[i] : largest[lane];
  }
  return *std::max_element(largest.begin(), largest.end());
}

double ExpAndSum(float* values, int64_t count, float shift) {
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kSumBlock) {
    sum += static_cast<double>(ExpBlock(values + begin, std::min(kSumBlock, count - begin), shift));
  }
  return sum;
}

void ExpShifted(float* values, int64_t count, float shift) {
  for (int64_t i = 0; i < count; ++i) values[i] = ExpUpTo88(values[i] - shift);
}

}  // namespace hearth
