// The second half of a deterministic sum over rows: partial sums of row blocks, added in an order
// that depends on their number alone.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth::cuda {

// A block takes 32 columns; each of its warps adds one range of the partials in order, and the
// ranges are added in order. The usual 256 partials are one round of loads.
constexpr int kPartialRanges = 32;
constexpr int kPartialThreads = kWarp * kPartialRanges;

// accumulator[column] += the sum of partials[count, columns], rounded once. Floor: 4 bytes per
// partial; they are few and still in the cache. Grid: columns / 32, rounded up.
template <typename T>
__global__ void __launch_bounds__(kPartialThreads)
    AddPartialSums(const float* partials, int64_t count, int64_t columns, T* accumulator) {
  constexpr int kInFlight = 8;
  __shared__ float ranges[kPartialRanges][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int range = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  const int64_t length = (count + kPartialRanges - 1) / kPartialRanges;
  const int64_t begin = min(count, range * length);
  int left = column < columns ? static_cast<int>(min(count, begin + length) - begin) : 0;
  const float* from = partials + begin * columns + column;
  const bool is_writer = range == 0 && column < columns;
  const float before = is_writer ? ToFloat(accumulator[column]) : 0.0f;
  float sum = 0.0f;
  for (; left > 0; left -= kInFlight) {
    float values[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      values[k] = k < left ? *from : 0.0f;
      from += columns;
    }
    // Zeros behind the last change no sum: it starts at +0 and so is never -0.
#pragma unroll
    for (const float value : values) sum += value;
  }
  ranges[range][lane] = sum;
  __syncthreads();
  if (!is_writer) return;
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kPartialRanges; ++i) total += ranges[i][lane];
  accumulator[column] = FromFloat<T>(before + total);
}

}  // namespace hearth::cuda
