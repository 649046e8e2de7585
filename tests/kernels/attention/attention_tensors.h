// The operands and results of one attention on the backend under test.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/api/workspace.h"
#include "tests/kernels/attention/attention_oracle.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {

// The tensors of a case.
class AttentionTensors {
 public:
  AttentionTensors(Rig& rig, const AttentionCase& c, const std::vector<double>& qkv_values,
                   const std::vector<double>& d_out_values)
      : rig_(rig),
        case_(c),
        qkv(rig, c.dtype, {c.tokens, c.qkv_heads(), c.shape.head_dim}, qkv_values),
        offsets(rig, DType::kI32, {static_cast<int64_t>(c.offsets.size())},
                std::vector<double>(c.offsets.begin(), c.offsets.end())),
        out(rig, c.dtype, {c.tokens, c.shape.heads, c.shape.head_dim}),
        log_sum_exp(rig, DType::kF32, {c.shape.heads, c.tokens}),
        d_out(rig, c.dtype, {c.tokens, c.shape.heads, c.shape.head_dim}, d_out_values),
        d_qkv(rig, c.dtype, {c.tokens, c.qkv_heads(), c.shape.head_dim}),
        workspace(
            rig, DType::kU8,
            {std::max(AttentionBackwardWorkspaceBytes(c.shape, c.tokens), c.workspace_bytes)}) {}
  AttentionTensors(Rig& rig, Random& random, const AttentionCase& c)
      : AttentionTensors(rig, c, random.Normals(c.tokens * c.qkv_heads() * c.shape.head_dim),
                         random.Normals(c.tokens * c.shape.heads * c.shape.head_dim)) {}

  AttentionForwardArgs forward() const {
    return {.shape = case_.shape,
            .qkv = qkv,
            .sequence_offsets = offsets,
            .out = out,
            .log_sum_exp = log_sum_exp,
            .workspace = workspace,
            .provider = case_.provider};
  }
  AttentionBackwardArgs backward() const {
    return {.shape = case_.shape,
            .qkv = qkv,
            .sequence_offsets = offsets,
            .out = out,
            .log_sum_exp = log_sum_exp,
            .d_out = d_out,
            .d_qkv = d_qkv,
            .workspace = workspace,
            .provider = case_.provider};
  }
  void Run() {
    rig_.backend().AttentionForward(rig_.stream(), forward());
    rig_.backend().AttentionBackward(rig_.stream(), backward());
    rig_.Finish();
  }

 private:
  Rig& rig_;
  AttentionCase case_;

 public:
  DeviceTensor qkv, offsets, out, log_sum_exp, d_out, d_qkv, workspace;
};

// Runs attention on normal operands, of which qkv has that deviation, by the backend or as told,
// and holds every result against the oracle's bounds.
inline void ExpectAttention(
    Rig& rig, Random& random, const AttentionCase& c, double deviation,
    const std::function<void(AttentionTensors&)>& run = [](AttentionTensors& tensors) {
      tensors.Run();
    }) {
  AttentionTensors tensors(rig, c,
                           random.Normals(c.tokens * c.qkv_heads() * c.shape.head_dim, deviation),
                           random.Normals(c.tokens * c.shape.heads * c.shape.head_dim));
  run(tensors);
  const std::vector<double> qkv = tensors.qkv.Get();
  const std::vector<double> out = tensors.out.Get();
  const std::vector<double> lse = tensors.log_sum_exp.Get();
  const AttentionForwardOracle forward(c, qkv);
  ExpectWithin(out, forward.out.value, forward.out.bound, "out");
  ExpectWithin(lse, forward.log_sum_exp.value, forward.log_sum_exp.bound, "log_sum_exp");
  const Bounded d_qkv = AttentionBackwardOracle(
      c, {.qkv = qkv, .out = out, .log_sum_exp = lse, .d_out = tensors.d_out.Get()});
  ExpectWithin(tensors.d_qkv.Get(), d_qkv.value, d_qkv.bound, "d_qkv");
}

// Rows [begin, begin + count) of a tensor's bytes.
inline std::vector<uint8_t> RowsOf(const DeviceTensor& tensor, int64_t begin, int64_t count) {
  const std::vector<uint8_t> bytes = tensor.GetBytes();
  const int64_t row = static_cast<int64_t>(bytes.size()) / tensor.view().shape()[0];
  return {bytes.begin() + begin * row, bytes.begin() + (begin + count) * row};
}

}  // namespace hearth::test
