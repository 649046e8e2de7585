// Causal multi-head attention with grouped key/value heads over packed sequences.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/core/tensor_view.h"

namespace hearth {

// A row of qkv holds `heads` query heads, then `kv_heads` key heads, then `kv_heads` value heads;
// query head h reads key/value head h / (heads / kv_heads). Token i belongs to the sequence s with
// sequence_offsets[s] <= i < sequence_offsets[s+1] and sees the tokens of s up to itself. Tokens at
// or behind the last offset are padding: their outputs and gradients are zero.
struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float softmax_scale = 1.0f;  // 1 / sqrt(head_dim)
  // 0: sequences of any length. Otherwise all have this one: sequence s begins at s * sequence_len,
  // and those that are missing are missing at the end. What breaks this has no meaning on a GPU.
  int64_t sequence_len = 0;
};

// Whose code computes: all mean the same, but their last bits differ. kAuto leaves it to the
// backend; the others are an order (DeviceError where it cannot be obeyed).
enum class AttentionProvider : uint8_t { kAuto, kOwn, kCudnn };
std::string_view Name(AttentionProvider provider);  // "auto", "own", "cudnn"

struct AttentionForwardArgs {
  AttentionShape shape;
  TensorView qkv;               // [tokens, heads + 2*kv_heads, head_dim] f32 | bf16
  TensorView sequence_offsets;  // [capacity + 1] i32, from 0, never falling; the unused tail
                                // repeats the number of real tokens
  TensorView out;               // [tokens, heads, head_dim] as qkv
  TensorView log_sum_exp;       // [heads, tokens] f32, of the scaled scores; 0 for padding
  TensorView workspace;  // u8, optional; as backward's, which lets backward use the same code
  AttentionProvider provider = AttentionProvider::kAuto;
};

struct AttentionBackwardArgs {
  AttentionShape shape;
  TensorView qkv;               // as in forward
  TensorView sequence_offsets;  // as in forward
  TensorView out;               // forward's result
  TensorView log_sum_exp;       // forward's result
  TensorView d_out;             // [tokens, heads, head_dim]
  TensorView d_qkv;             // [tokens, heads + 2*kv_heads, head_dim], overwritten
  TensorView workspace;         // u8, AttentionBackwardWorkspaceBytes; more may make it faster
  AttentionProvider provider = AttentionProvider::kAuto;
};

void Validate(const AttentionForwardArgs& args);
void Validate(const AttentionBackwardArgs& args);

}  // namespace hearth
