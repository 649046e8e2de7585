// The two ways in which the CUDA backend computes attention. "Tiled" is made for training: bf16,
// head sizes 64 and 128, tensor cores. "Plain" takes everything else. Both give the same bits in
// every run on one chip, and to a sequence the same wherever it lies among as many tokens.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/api/attention.h"

namespace hearth {

// Whether the tiled kernels take this: bf16, a head size of 64 or 128, a positive scale, and
// tensors that start at multiples of 16 bytes.
bool IsTiled(const AttentionForwardArgs& args);
bool IsTiled(const AttentionBackwardArgs& args);

// What the tiles depend on, as CudaDevice has it.
struct GpuChip {
  int compute_capability = 0;
  int multiprocessors = 0;
};

// Enqueue. The tokens must be more than none.
void TiledAttentionForward(cudaStream_t stream, const GpuChip& chip,
                           const AttentionForwardArgs& args);
void TiledAttentionBackward(cudaStream_t stream, const GpuChip& chip,
                            const AttentionBackwardArgs& args);
void PlainAttentionForward(cudaStream_t stream, const AttentionForwardArgs& args);
void PlainAttentionBackward(cudaStream_t stream, const AttentionBackwardArgs& args);

}  // namespace hearth
