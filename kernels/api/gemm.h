// Matrix multiplication with accumulation in fp32.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// out[m, n] = sum_k A[m, k] * B[n, k] (+ bias[n]) (+ addend[m, n]), rounded once to out's type.
// Operands are both f32, both bf16, or both f8 (not E5M2 times E5M2). f8 operands are K-major, have
// k, and the leading dimension of out, in multiples of 16, and carry scales.
struct GemmArgs {
  TensorView a;  // [m, k]; [k, m] when a_transposed
  TensorView b;  // [n, k]; [k, n] when b_transposed
  bool a_transposed = false;
  bool b_transposed = false;
  TensorView a_scale;  // [4] f32 ScaleRecord, f8 only
  TensorView b_scale;
  TensorView bias;       // [n] of out's type or bf16, optional
  TensorView addend;     // [m, n], optional; may be `out` itself, which accumulates
  TensorView out;        // [m, n] f32 | bf16
  TensorView workspace;  // u8, GemmWorkspaceBytes (kernels/api/workspace.h)
  // f8 only: the hardware may keep fewer bits of its running sums, which is faster where it can.
  bool fast_accumulation = false;
};

struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

GemmShape ShapeOf(const GemmArgs& args);
void Validate(const GemmArgs& args);

}  // namespace hearth
