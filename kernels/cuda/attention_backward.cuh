// What the two tiled kernels of the backward pass share. With P the probabilities of the scores
// S = scale * Q K^T, computed again from the log-sum-exp, and D[i] = out[i] . d_out[i]:
//   dV = P^T dO, dS = P * (dO V^T - D), dQ = scale * dS K, dK = scale * dS^T Q.
// One kernel gathers each query's gradient over the keys it sees, the other each key's and value's
// over the queries that see them: seven products instead of five, but no atomics, no gradients in
// fp32 in memory and one order of every sum.
#pragma once

#include "kernels/cuda/attention_launch.h"

namespace hearth {

namespace cuda {

struct BackwardParams {
  SequenceOffsets sequences;
  const BFloat16* qkv;
  const BFloat16* out;
  const BFloat16* d_out;
  const float* log_sum_exp;  // [heads, tokens]
  float* out_dot_d_out;      // [heads, tokens]; the queries' kernel writes, the keys' reads it
  BFloat16* d_qkv;
  int heads;
  int kv_heads;
  float scale;

  // Heads in a row of qkv.
  __device__ int row_heads() const { return heads + 2 * kv_heads; }
};

}  // namespace cuda

// Enqueue; head_dim is 64 or 128. First the queries, then the keys.
void TiledBackwardOfQueries(cudaStream_t stream, const GpuChip& chip, int64_t head_dim,
                            const cuda::BackwardParams& params);
void TiledBackwardOfKeys(cudaStream_t stream, const GpuChip& chip, int64_t head_dim,
                         const cuda::BackwardParams& params);

}  // namespace hearth
