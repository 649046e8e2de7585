// What the launchers of the tiled attention kernels share.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <string_view>

#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/attention_sequences.cuh"

namespace hearth {

// Whether a multiprocessor has at least 160 KB of shared memory (A100, H100 and their like) or 100
// KB, of which a thread block may use 99.
inline bool HasLargeSharedMemory(int compute_capability) {
  return compute_capability == 80 || compute_capability == 87 ||
         (compute_capability >= 90 && compute_capability < 120);
}

inline cuda::SequenceOffsets Sequences(const TensorView& offsets, int64_t tokens) {
  return {.offsets = offsets.as<int32_t>(), .capacity = offsets.elements() - 1, .tokens = tokens};
}

// Launches kernel(params) with one thread block for each of `heads` and each slot of its blocks of
// rows; the heads are the faster index.
template <typename Config, typename Params>
void LaunchBlocks(cudaStream_t stream, void (*kernel)(Params), std::string_view name, int64_t heads,
                  const Params& params) {
  const cuda::SequenceOffsets& sequences = params.sequences;
  const int64_t blocks =
      heads * cuda::RowBlockSlots<Config::kRows>(sequences.tokens, sequences.capacity);
  CheckCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 Config::kSharedBytes),
            name);
  kernel<<<Narrow<int>(blocks), Config::kThreads, Config::kSharedBytes, stream>>>(params);
  CheckLaunch(name);
}

}  // namespace hearth
