// Attention in double precision, straight from its formulas, with bounds for an fp32 computation.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/api/attention.h"

namespace hearth::test {

struct AttentionCase {
  AttentionShape shape;
  std::vector<int32_t> offsets;  // as AttentionForwardArgs::sequence_offsets
  int64_t tokens = 0;
  DType dtype = DType::kF32;
  // Relative error with which probabilities and gradients of scores may enter the sums over keys
  // and queries: 0, or bf16's where they have to be operands of tensor cores.
  double factor_roundoff = 0;
  // Relative error of each query head's part of a key's or value's gradient before the parts of a
  // group are added: 0, or bf16's where they are stored.
  double part_roundoff = 0;
  AttentionProvider provider = AttentionProvider::kAuto;
  int64_t workspace_bytes = 0;  // that much at least

  int64_t qkv_heads() const { return shape.heads + 2 * shape.kv_heads; }
};

struct Bounded {
  explicit Bounded(int64_t count)
      : value(static_cast<size_t>(count)), bound(static_cast<size_t>(count)) {}
  std::vector<double> value;
  std::vector<double> bound;
};

struct AttentionForwardOracle {
  AttentionForwardOracle(const AttentionCase& c, const std::vector<double>& qkv);
  Bounded out;          // [tokens, heads, head_dim]
  Bounded log_sum_exp;  // [heads, tokens]
};

// From forward's stored results, as the op gets them.
struct AttentionBackwardInputs {
  const std::vector<double>& qkv;
  const std::vector<double>& out;
  const std::vector<double>& log_sum_exp;
  const std::vector<double>& d_out;
};

Bounded AttentionBackwardOracle(const AttentionCase& c, const AttentionBackwardInputs& inputs);

}  // namespace hearth::test
