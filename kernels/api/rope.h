// Rotary position embedding (arXiv 2104.09864) on the query and key heads of a qkv tensor, rotating
// the two halves of a head, optionally after a per-head RMSNorm (Qwen3).
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// Per-head norm weights; both absent for families without it.
struct QkNormWeights {
  TensorView q;  // [head_dim]
  TensorView k;  // [head_dim]
  float epsilon = 1e-6f;

  explicit operator bool() const { return static_cast<bool>(q); }
};

// out = rope(norm(qkv)) on query and key heads, values copied. Padding tokens have position 0.
struct RopeForwardArgs {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  TensorView qkv;        // [tokens, heads + 2*kv_heads, head_dim] f32 | bf16
  TensorView positions;  // [tokens] i32
  TensorView cos_sin;    // [max positions, head_dim] f32: head_dim/2 cosines, then as many sines
  QkNormWeights norm;    // optional
  TensorView rstd;       // [tokens, heads + kv_heads] f32, with norm only
  TensorView out;        // as qkv; may be qkv itself without norm
};

struct RopeBackwardArgs {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  TensorView d_out;      // [tokens, heads + 2*kv_heads, head_dim]
  TensorView positions;  // as in forward
  TensorView cos_sin;    // as in forward
  QkNormWeights norm;    // as in forward
  TensorView qkv;        // forward's input, with norm only
  TensorView rstd;       // forward's result, with norm only
  TensorView d_norm_q;   // [head_dim] f32 | bf16, accumulated, with norm only
  TensorView d_norm_k;   // [head_dim]
  TensorView d_qkv;      // as d_out; may be d_out itself
  TensorView workspace;  // u8, RopeBackwardWorkspaceBytes, with norm only
};

void Validate(const RopeForwardArgs& args);
void Validate(const RopeBackwardArgs& args);

}  // namespace hearth
