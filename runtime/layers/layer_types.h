// What the layer functions take: where to compute, and views of weights, gradients and activations.
// Layers know no rank, shard or tier; whoever calls them has made everything resident.
#pragma once

#include <array>

#include "kernels/api/kernel_backend.h"
#include "runtime/model/activation_table.h"
#include "runtime/model/model_config.h"

namespace hearth {

struct LayerContext {
  KernelBackend& backend;
  Stream& stream;
  const ModelConfig& config;
  const Precision& precision;
  TensorView workspace;  // u8, as large as the largest op of kernels/api/workspace.h needs
  // How a tensor's FP8 scale is found where it is first quantised: kCurrent or kVerified.
  ScaleMode scales = ScaleMode::kCurrent;
  // u8, what attention may use instead of `workspace`; no smaller.
  TensorView attention_workspace;
};

// A linear's weight [n, k]: in the storage type, or in FP8 with its transposed copy.
struct MatrixWeight {
  TensorView values;      // [n, k]
  TensorView transposed;  // [k, n] f8, under FP8 only
  TensorView scale;       // [4] f32 ScaleRecord, under FP8 only
};

// Absent views stand for parameters the family does not have. Q = (heads + 2*kv_heads) * head_dim.
struct BlockWeights {
  TensorView norm1;      // [hidden]
  MatrixWeight qkv;      // [Q, hidden]
  TensorView qkv_bias;   // [Q]
  TensorView q_norm;     // [head_dim]
  TensorView k_norm;     // [head_dim]
  MatrixWeight o;        // [hidden, heads*head_dim]
  TensorView norm2;      // [hidden]
  MatrixWeight gate_up;  // [2*ffn, hidden]
  MatrixWeight down;     // [hidden, ffn]
};

// Accumulated into; shapes as the weights.
struct BlockGradients {
  TensorView norm1;
  TensorView qkv;
  TensorView qkv_bias;
  TensorView q_norm;
  TensorView k_norm;
  TensorView o;
  TensorView norm2;
  TensorView gate_up;
  TensorView down;
};

// The tensors of one block and micro-batch, by their name in the table.
class BlockViews {
 public:
  TensorView& operator[](BlockTensor tensor) { return views_[static_cast<size_t>(tensor)]; }
  const TensorView& operator[](BlockTensor tensor) const {
    return views_[static_cast<size_t>(tensor)];
  }
  // The [4] record of one scale; absent without FP8.
  TensorView Scale(BlockScale scale) const;

 private:
  std::array<TensorView, kBlockTensorCount> views_;
};

// Where each token of a micro-batch stands.
struct SequenceViews {
  TensorView positions;         // [N] i32
  TensorView sequence_offsets;  // [capacity + 1] i32
  TensorView cos_sin;           // [positions, head_dim] f32
  int64_t sequence_len = 0;     // 0: any; otherwise of every sequence (AttentionShape)
};

}  // namespace hearth
