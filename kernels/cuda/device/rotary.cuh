// What the forward and backward rotations of heads share.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth::cuda {

template <typename T>
struct RotaryArgs {
  const T* in;  // [tokens, all, head_dim]: qkv, or its gradient
  T* out;       // may be `in`
  const int32_t* positions;
  const float* cos_sin;
  int64_t tokens;
  int heads;    // query heads
  int rotated;  // query and key heads
  int touched;  // those, and the value heads if they are copied
  int all;
  int head_dim;
  int64_t angles;  // rows of cos_sin
  float sign;      // of the angle: -1 for gradients

  // With norm only.
  const T* norm_q;
  const T* norm_k;
  float* rstd;  // [tokens, rotated]
  float epsilon;
  const T* x;       // backward: forward's input
  float* partials;  // backward: [2, blocks of sum_tokens tokens, head_dim]
  int sum_tokens;   // of a partial sum
};

// N columns of the lower half of a head and the N that are turned with them.
template <int N>
struct Halves {
  float low[N];
  float high[N];
};

// Cosines and sines of columns [column, column + N) at a position; `column` is below head_dim / 2.
// NaN for a position that the table does not have, so that the loss shows it.
template <bool kVector, int N, typename T>
__device__ inline Halves<N> LoadAngles(const RotaryArgs<T>& args, int64_t position, int column) {
  Halves<N> angles;
  if (position < 0 || position >= args.angles) {
#pragma unroll
    for (int i = 0; i < N; ++i) angles.low[i] = angles.high[i] = __uint_as_float(0x7fc00000u);
    return angles;
  }
  const float* row = args.cos_sin + position * args.head_dim + column;
  Unpack(LoadPack<kVector, N>(row, N), angles.low);
  Unpack(LoadPack<kVector, N>(row + args.head_dim / 2, N), angles.high);
  return angles;
}

template <int N>
__device__ inline void Rotate(const Halves<N>& angles, float sign, Halves<N>& head) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float x1 = head.low[i];
    const float x2 = head.high[i];
    const float sine = sign * angles.high[i];
    head.low[i] = fmaf(x1, angles.low[i], -(x2 * sine));
    head.high[i] = fmaf(x2, angles.low[i], x1 * sine);
  }
}

template <typename T, int N>
__device__ inline void RoundHalves(Halves<N>& head) {
  RoundInPlace<T>(head.low);
  RoundInPlace<T>(head.high);
}

template <int N>
__device__ inline float SumOfProducts(const Halves<N>& a, const Halves<N>& b) {
  float low = 0.0f;
  float high = 0.0f;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    low = fmaf(a.low[i], b.low[i], low);
    high = fmaf(a.high[i], b.high[i], high);
  }
  return low + high;
}

// The sum over `lanes` neighbouring threads, a power of two up to 32; all of the warp call it.
__device__ inline float LaneSum(float value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// A head whose columns several threads hold, each some of both halves: rope(norm(head)).
template <typename T, int N>
__device__ inline void NormalizeHead(const RotaryArgs<T>& args, float sum_of_squares,
                                     const Halves<N>& weight, float* rstd_out, Halves<N>& head) {
  const float mean = __fdiv_rn(sum_of_squares, static_cast<float>(args.head_dim));
  const float rstd = __fdiv_rn(1.0f, __fsqrt_rn(mean + args.epsilon));
  if (rstd_out != nullptr) *rstd_out = rstd;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    head.low[i] = head.low[i] * rstd;
    head.high[i] = head.high[i] * rstd;
  }
  RoundHalves<T>(head);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    head.low[i] = head.low[i] * weight.low[i];
    head.high[i] = head.high[i] * weight.high[i];
  }
  RoundHalves<T>(head);
}

}  // namespace hearth::cuda
