// Floors: packing reads and writes 4 bytes for each head and token; zeroing writes the padding
// alone, and where there is none each thread block reads one word.
#include "kernels/cuda/attention_dense.h"

#include <algorithm>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

constexpr int kThreads = 256;
// Padding is rare and short: enough to fill a chip once, few enough to cost little without any.
constexpr int64_t kBlocksForPadding = 128;

// As the other kernels, never out of bounds whatever the offsets hold.
__device__ int64_t RealTokens(const int32_t* last_offset, int64_t tokens) {
  return min(max(int64_t{*last_offset}, int64_t{0}), tokens);
}

__global__ void ZeroRows(const int32_t* last_offset, int64_t tokens, int64_t vectors_of_row,
                         uint4* rows) {
  const int64_t end = tokens * vectors_of_row;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = RealTokens(last_offset, tokens) * vectors_of_row +
                   int64_t{blockIdx.x} * kThreads + threadIdx.x;
       i < end; i += step) {
    rows[i] = uint4{0, 0, 0, 0};
  }
}

// A thread block for each head.
__global__ void ZeroColumns(const int32_t* last_offset, int64_t tokens, float* values) {
  float* const row = values + int64_t{blockIdx.x} * tokens;
  for (int64_t i = RealTokens(last_offset, tokens) + threadIdx.x; i < tokens; i += kThreads) {
    row[i] = 0.0f;
  }
}

__global__ void Pack(const float* log_sum_exp, int64_t tokens, int64_t heads, int64_t sequence_len,
                     int64_t elements, float* packed) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    const int64_t row = i / sequence_len;
    const int64_t head = row % heads;
    const int64_t sequence = row / heads;
    packed[i] = log_sum_exp[head * tokens + sequence * sequence_len + i % sequence_len];
  }
}

const int32_t* LastOffset(const TensorView& sequence_offsets) {
  return sequence_offsets.as<int32_t>() + sequence_offsets.elements() - 1;
}

}  // namespace

void LaunchZeroPadding(cudaStream_t stream, const TensorView& sequence_offsets,
                       const TensorView& rows) {
  const int64_t tokens = rows.shape()[0];
  if (rows.bytes() == 0) return;
  constexpr auto kVector = static_cast<int64_t>(sizeof(uint4));
  const int64_t vectors = DivExact(DivExact(rows.bytes(), tokens), kVector);
  const int64_t blocks = std::min(kBlocksForPadding, DivUp(tokens * vectors, kThreads));
  ZeroRows<<<Narrow<int>(blocks), kThreads, 0, stream>>>(LastOffset(sequence_offsets), tokens,
                                                         vectors, static_cast<uint4*>(rows.data()));
  CheckLaunch("zero padding");
}

void LaunchZeroPaddedColumns(cudaStream_t stream, const TensorView& sequence_offsets,
                             const TensorView& log_sum_exp) {
  const int64_t heads = log_sum_exp.shape()[0];
  const int64_t tokens = log_sum_exp.shape()[1];
  if (heads * tokens == 0) return;
  ZeroColumns<<<Narrow<int>(heads), kThreads, 0, stream>>>(LastOffset(sequence_offsets), tokens,
                                                           log_sum_exp.as<float>());
  CheckLaunch("zero padding");
}

void LaunchPackLogSumExp(cudaStream_t stream, const TensorView& log_sum_exp,
                         const TensorView& packed) {
  const int64_t elements = packed.elements();
  if (elements == 0) return;
  constexpr int64_t kMostBlocks = 4096;
  const int64_t blocks = std::min(kMostBlocks, DivUp(elements, kThreads));
  Pack<<<Narrow<int>(blocks), kThreads, 0, stream>>>(
      log_sum_exp.as<float>(), log_sum_exp.shape()[1], packed.shape()[1], packed.shape()[2],
      elements, packed.as<float>());
  CheckLaunch("pack log-sum-exp");
}

}  // namespace hearth
