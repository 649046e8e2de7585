// The second half of a deterministic sum over rows: partial sums of row blocks, added in an order
// that depends on their number alone.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth::cuda {

// Rows whose sum is one partial; the reference's, and what workspaces are made for.
constexpr int kSumRows = 64;

// A block takes 32 columns; each of its warps adds one eighth of the partials in order, and the
// eighths are added in order.
constexpr int kPartialRanges = 8;
constexpr int kPartialThreads = kWarp * kPartialRanges;

// accumulator[column] += the sum of partials[count, columns], rounded once. Floor: 4 bytes per
// partial; they are few and still in the cache. Grid: columns / 32, rounded up.
template <typename T>
__global__ void __launch_bounds__(kPartialThreads)
    AddPartialSums(const float* partials, int64_t count, int64_t columns, T* accumulator) {
  __shared__ float ranges[kPartialRanges][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int range = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  const int64_t length = (count + kPartialRanges - 1) / kPartialRanges;
  const int64_t begin = min(count, range * length);
  const int64_t end = min(count, begin + length);
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 8
    for (int64_t i = begin; i < end; ++i) sum += partials[i * columns + column];
  }
  ranges[range][lane] = sum;
  __syncthreads();
  if (range != 0 || column >= columns) return;
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kPartialRanges; ++i) total += ranges[i][lane];
  accumulator[column] = FromFloat<T>(ToFloat(accumulator[column]) + total);
}

}  // namespace hearth::cuda
