// A team of threads per row, which keeps the row in registers between a reduction over it and what
// follows. The order of sums depends on the number of columns alone, not on the kernel, the grid or
// whether accesses are wide: what one pass computed of a row another computes again bit by bit.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth::cuda {

// 16-byte loads that a thread has in flight, and registers of four words that it keeps.
constexpr int kTeamChunks = 4;
constexpr int kMaxTeam = 512;

// Elements of T in 16 bytes: a chunk.
template <typename T>
using Chunk = Pack<T, kWide<T>>;

// Threads of a team: a power of two from 32 on, so that chunks of a row fit their registers; wider
// rows are taken in segments.
template <typename T>
int TeamLanes(int64_t columns) {
  const int64_t chunks = (columns + kWide<T> - 1) / kWide<T>;
  int lanes = kWarp;
  while (lanes < kMaxTeam && lanes * kTeamChunks < chunks) lanes *= 2;
  return lanes;
}

template <typename T>
bool FitsOneSegment(int64_t columns) {
  return columns <= int64_t{kMaxTeam} * kTeamChunks * kWide<T>;
}

// Chunks first, first + lanes, ... of a row; zeros where it ends. Index: int where a row is one
// segment.
template <bool kVector, typename T, typename Index>
__device__ inline void LoadChunks(const T* row, Index columns, Index first, int lanes,
                                  Chunk<T> (&chunks)[kTeamChunks]) {
#pragma unroll
  for (int k = 0; k < kTeamChunks; ++k) {
    const Index column = (first + k * lanes) * kWide<T>;
    if (column < columns) {
      chunks[k] = LoadPack<kVector, kWide<T>>(row + column, columns - column);
    } else {
      chunks[k] = {};
    }
  }
}

// (s0 + s1) + (s2 + s3) of the chunks' sums: four chains of additions instead of a long one.
__device__ inline float AddChunkSums(const float (&sums)[kTeamChunks]) {
  static_assert(kTeamChunks == 4);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <typename T>
__device__ inline float SumOfSquares(const Chunk<T> (&chunks)[kTeamChunks]) {
  float sums[kTeamChunks];
#pragma unroll
  for (int k = 0; k < kTeamChunks; ++k) {
    float values[kWide<T>];
    Unpack(chunks[k], values);
    sums[k] = 0.0f;
#pragma unroll
    for (const float value : values) sums[k] = fmaf(value, value, sums[k]);
  }
  return AddChunkSums(sums);
}

// The sum over a team of `lanes` threads, in each of them. All threads of the block call it.
// `shared` holds a float per warp; a call with the same one must lie beyond another call's or any
// other __syncthreads.
__device__ inline float TeamSum(float value, int lanes, float* shared) {
  value = WarpSum(value);
  if (lanes == kWarp) return value;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (threadIdx.x % kWarp == 0) shared[warp] = value;
  __syncthreads();
  const int warps = lanes / kWarp;
  const float* team = shared + warp / warps * warps;
  float sum = 0.0f;
  for (int i = 0; i < warps; ++i) sum += team[i];
  return sum;
}

}  // namespace hearth::cuda
