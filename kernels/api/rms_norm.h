// Root-mean-square normalisation (arXiv 1910.07467), as in transformers: the statistics in fp32,
// x * rstd rounded to the storage type, then multiplied by the weight.
#pragma once

#include "kernels/api/quantize.h"

namespace hearth {

struct RmsNormForwardArgs {
  TensorView x;       // [tokens, columns] f32 | bf16
  TensorView weight;  // [columns] as x
  float epsilon = 1e-6f;
  TensorView out;             // [tokens, columns] as x; optional when quantized is given
  QuantizedOutput quantized;  // optional
  TensorView rstd;            // [tokens] f32
};

// d_x = gradient through the norm + d_residual. d_weight accumulates.
struct RmsNormBackwardArgs {
  TensorView d_out;       // [tokens, columns]
  TensorView x;           // [tokens, columns]
  TensorView weight;      // [columns]
  TensorView rstd;        // [tokens] f32
  TensorView d_residual;  // [tokens, columns], optional; may be d_x
  TensorView d_x;         // [tokens, columns]
  TensorView d_weight;    // [columns] f32 | bf16, accumulated
  TensorView workspace;   // u8, RmsNormBackwardWorkspaceBytes
};

void Validate(const RmsNormForwardArgs& args);
void Validate(const RmsNormBackwardArgs& args);

}  // namespace hearth
