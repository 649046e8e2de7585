// What surrounds the library's matmuls: parts it does not do itself, and data to measure it with.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/core/tensor_view.h"

namespace hearth {

// A piece of a product, finished: out = round(sum + bias + addend), in this order in fp32.
struct FinishArgs {
  TensorView sum;     // [rows, columns] f32, dense; may be `out` when that is f32 and dense
  TensorView bias;    // [columns] f32 | bf16, optional
  TensorView addend;  // f32 | bf16, optional; its first element is that of the piece, rows as out's
  TensorView out;     // f32 | bf16; its first element is that of the piece
  int64_t out_leading = 0;  // elements from a row of out, and of addend, to the next
};
// Of addend and out only type and address are read.
void LaunchFinish(cudaStream_t stream, const FinishArgs& args);

// Finite values of mixed signs and magnitudes up to 2, the same for equal seeds. f32 | bf16 | f8.
void LaunchRandomFill(cudaStream_t stream, const TensorView& out, uint32_t seed);

// *different = 1 unless the two have equal bytes, else it stays. Equal types and sizes, of 2 or 4
// bytes an element.
void LaunchCompare(cudaStream_t stream, const TensorView& a, const TensorView& b,
                   int32_t* different);

}  // namespace hearth
