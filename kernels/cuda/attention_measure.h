// Which of two attentions is faster on this GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "kernels/cuda/attention_cudnn.h"
#include "kernels/cuda/attention_kernels.h"

namespace hearth {

// Forward and backward together.
struct AttentionTimes {
  double own_microseconds = 0;
  double cudnn_microseconds = 0;
};

// Runs both several times on random operands in memory of its own, which is given back on return;
// nothing where the GPU refuses that memory. Blocks until everything before on the stream, and its
// own work, is done. DeviceError when one of them fails or the GPU does not answer.
std::optional<AttentionTimes> MeasureAttention(cudaStream_t stream, const GpuChip& chip,
                                               const AttentionKey& key, float softmax_scale,
                                               CudnnAttention& cudnn);

}  // namespace hearth
