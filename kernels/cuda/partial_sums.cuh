// The second half of a deterministic sum over rows: partial sums of row blocks, added in an order
// that depends on their number alone.
#pragma once

#include <cstdint>

#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/grid.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth::cuda {

// A block takes 32 columns; each of its warps adds one range of the partials in order, and the
// ranges are added in order. The usual 256 partials are one round of loads.
constexpr int kPartialRanges = 32;
constexpr int kPartialThreads = kWarp * kPartialRanges;

// [columns] each.
template <typename T>
struct Accumulators {
  T* first;
  T* second;  // may be null
};

// See AddPartialSums. Floor: 4 bytes per partial; they are few and still in the cache. Grid:
// columns / 32, rounded up; accumulators.
template <typename T>
__global__ void __launch_bounds__(kPartialThreads)
    AddPartialSumsKernel(const float* partials, int64_t count, int64_t columns,
                         Accumulators<T> accumulators) {
  constexpr int kInFlight = 8;
  __shared__ float ranges[kPartialRanges][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int range = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  const int64_t length = (count + kPartialRanges - 1) / kPartialRanges;
  const int64_t begin = min(count, range * length);
  int left = column < columns ? static_cast<int>(min(count, begin + length) - begin) : 0;
  const float* from = partials + (blockIdx.y * count + begin) * columns + column;
  T* accumulator = blockIdx.y == 0 ? accumulators.first : accumulators.second;
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

template <typename T>
void LaunchAddPartialSums(cudaStream_t stream, const float* partials, int64_t count,
                          int64_t columns, const Accumulators<T>& accumulators) {
  const dim3 grid(GridSize(DivUp(columns, kWarp)), accumulators.second != nullptr ? 2 : 1);
  AddPartialSumsKernel<<<grid, kPartialThreads, 0, stream>>>(partials, count, columns,
                                                             accumulators);
  CheckLaunch("AddPartialSums");
}

// first += the sum of partials[0], second += that of partials[1], rounded once. Partials:
// [accumulators, count, columns]; accumulators: [columns], the second may be absent.
inline void AddPartialSums(cudaStream_t stream, const float* partials, int64_t count,
                           const TensorView& first, const TensorView& second = {}) {
  const int64_t columns = first.elements();
  if (second && second.dtype() != first.dtype()) {
    AddPartialSums(stream, partials, count, first);
    AddPartialSums(stream, partials + count * columns, count, second);
  } else if (first.dtype() == DType::kF32) {
    LaunchAddPartialSums<float>(stream, partials, count, columns,
                                {first.as<float>(), second ? second.as<float>() : nullptr});
  } else {
    LaunchAddPartialSums<BFloat16>(
        stream, partials, count, columns,
        {first.as<BFloat16>(), second ? second.as<BFloat16>() : nullptr});
  }
}

}  // namespace hearth::cuda
