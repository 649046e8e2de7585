// SwiGLU (arXiv 2002.05202): silu(gate) * up.
#pragma once

#include "kernels/api/quantize.h"

namespace hearth {

struct SwigluForwardArgs {
  TensorView gate_up;         // [tokens, 2 * ffn] f32 | bf16: gate columns, then up columns
  TensorView out;             // [tokens, ffn] as gate_up; optional when quantized is given
  QuantizedOutput quantized;  // optional
};

struct SwigluBackwardArgs {
  TensorView d_out;           // [tokens, ffn]
  TensorView gate_up;         // [tokens, 2 * ffn]
  TensorView d_gate_up;       // [tokens, 2 * ffn], may be gate_up; optional when quantized is given
  QuantizedOutput quantized;  // optional
};

void Validate(const SwigluForwardArgs& args);
void Validate(const SwigluBackwardArgs& args);

}  // namespace hearth
