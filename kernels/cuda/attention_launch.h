// What the launchers of the tiled attention kernels share.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <string_view>

#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/attention_sequences.cuh"

namespace hearth {

// Shared memory of a multiprocessor in bytes; the least there is where the chip is not known.
inline int64_t SharedBytesOf(int compute_capability) {
  const bool is_a100 = compute_capability == 80 || compute_capability == 87;
  const bool is_h100 = compute_capability >= 90 && compute_capability < 110;
  return (is_h100 ? 228 : is_a100 ? 164 : 100) * int64_t{1024};
}

// Whether as many thread blocks fit on a multiprocessor as the kernel is made for; each costs 1 KB
// beside its own.
template <typename Config>
bool Fits(const GpuChip& chip) {
  return Config::kBlocks * (Config::kSharedBytes + 1024) <= SharedBytesOf(chip.compute_capability);
}

// Whether so many thread blocks leave multiprocessors idle, or one of them, with the causal half
// that is longest, ends long after the others.
inline bool AreFew(int64_t blocks, const GpuChip& chip) {
  return 2 * blocks < 3 * int64_t{chip.multiprocessors};
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
