// What surrounds cuDNN's attention: what it leaves undone of the op.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/core/tensor_view.h"

namespace hearth {

// Rows behind the last of `sequence_offsets` = 0. `rows`: [tokens, ...] whose rows are multiples of
// 16 bytes and begin at one.
void LaunchZeroPadding(cudaStream_t stream, const TensorView& sequence_offsets,
                       const TensorView& rows);
// The same of the columns of log_sum_exp [heads, tokens] f32.
void LaunchZeroPaddedColumns(cudaStream_t stream, const TensorView& sequence_offsets,
                             const TensorView& log_sum_exp);

// packed [sequences, heads, sequence_len] f32 = log_sum_exp [heads, tokens] f32 without the
// padding.
void LaunchPackLogSumExp(cudaStream_t stream, const TensorView& log_sum_exp,
                         const TensorView& packed);

}  // namespace hearth
