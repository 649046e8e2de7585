// Sums and maxima over a warp or a block, always combined in the same order.
#pragma once

#include <cstdint>

namespace hearth::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// The larger one; NaN wins over everything.
__device__ inline float MaxOrNan(float a, float b) { return a >= b || a != a ? a : b; }

__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = MaxOrNan(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// The sum over a block of a multiple of 32 threads, at most 1024, in every thread. `shared` is 32
// floats that no thread still reads from an earlier call (a __syncthreads lies between).
__device__ inline float BlockSum(float value, float* shared) {
  value = WarpSum(value);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  if (threadIdx.x % kWarp == 0) shared[warp] = value;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return WarpSum(lane < warps ? shared[lane] : 0.0f);
}

__device__ inline float BlockMax(float value, float* shared) {
  value = WarpMax(value);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  if (threadIdx.x % kWarp == 0) shared[warp] = value;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return WarpMax(lane < warps ? shared[lane] : shared[0]);
}

// max(*address, value) for value >= 0 or NaN, whatever the order of the writers: the bit patterns
// of such floats rise with their values, and every NaN lies above them.
__device__ inline void AtomicMaxMagnitude(float* address, float value) {
  atomicMax(reinterpret_cast<unsigned*>(address), __float_as_uint(value) & 0x7fffffffu);
}

}  // namespace hearth::cuda
