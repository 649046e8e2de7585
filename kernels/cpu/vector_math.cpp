#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/cpu/exp.h"

namespace hearth {

namespace {

constexpr int64_t kSumBlock = 4096;
// Interleaved partial results, whatever the width of the machine's vectors.
constexpr int64_t kLanes = 16;

using Lanes = std::array<float, kLanes>;

float ExpBlock(float* values, int64_t count, float shift) {
  Lanes sums{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = Exp(values[i + lane] - shift);
      values[i + lane] = value;
      sums[lane] += value;
    }
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) {
    values[i] = Exp(values[i] - shift);
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
  for (int64_t i = 0; i < count; ++i) values[i] = Exp(values[i] - shift);
}

}  // namespace hearth
