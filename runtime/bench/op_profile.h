// What each op has to do at least: the floor of its time.
#pragma once

#include <string>
#include <vector>

#include "kernels/api/kernel_backend.h"

namespace hearth {

struct OpProfile {
  std::string op;                   // "gemm"
  std::string shape;                // sizes, types and variants; with `op` it tells ops apart
  double bytes = 0;                 // every operand once: read, written, or both
  double flops = 0;                 // of matmuls and attention; a multiply-add counts as two
  DType flop_type = DType::kBF16;   // whose rate counts for them
  bool host_link = false;           // the bytes pass between host and device
  std::vector<TensorView> updated;  // what the op reads and then overwrites
};

// Profiles of ops of one training run. Sizes come from the views; two things they do not show are
// told: how long the sequences are, and which memory is the host's.
class OpProfiler {
 public:
  // `sequences` of `sequence_len` tokens in a micro-batch.
  OpProfiler(int64_t sequences, int64_t sequence_len)
      : sequences_(sequences), sequence_len_(sequence_len) {}
  void set_host_memory(const TensorView& host) { host_memory_ = host; }

  OpProfile operator()(const GemmArgs& args) const;
  OpProfile operator()(const AttentionForwardArgs& args) const;
  OpProfile operator()(const AttentionBackwardArgs& args) const;
  OpProfile operator()(const RmsNormForwardArgs& args) const;
  OpProfile operator()(const RmsNormBackwardArgs& args) const;
  OpProfile operator()(const RopeForwardArgs& args) const;
  OpProfile operator()(const RopeBackwardArgs& args) const;
  OpProfile operator()(const SwigluForwardArgs& args) const;
  OpProfile operator()(const SwigluBackwardArgs& args) const;
  OpProfile operator()(const EmbeddingForwardArgs& args) const;
  OpProfile operator()(const EmbeddingBackwardArgs& args) const;
  OpProfile operator()(const CrossEntropyArgs& args) const;
  OpProfile operator()(const QuantizeArgs& args) const;
  OpProfile operator()(const TransposeArgs& args) const;
  OpProfile operator()(const AmaxArgs& args) const;
  OpProfile operator()(const ScaleFromAmaxArgs& args) const;
  OpProfile operator()(const CollectAmaxArgs& args) const;
  OpProfile operator()(const UpdateScalesArgs& args) const;
  OpProfile operator()(const AdamwArgs& args) const;
  OpProfile operator()(const OrderedSumArgs& args) const;
  OpProfile operator()(const ColumnSumArgs& args) const;
  OpProfile operator()(const FixedPointSumArgs& args) const;
  OpProfile operator()(const ClipArgs& args) const;
  OpProfile operator()(const CopyArgs& args) const;
  OpProfile operator()(const ZeroArgs& args) const;
  OpProfile operator()(const CastArgs& args) const;

 private:
  // Multiply-adds of one matmul over the causal half of all sequences' scores, times two.
  double CausalFlops(const AttentionShape& shape) const;

  int64_t sequences_;
  int64_t sequence_len_;
  TensorView host_memory_;
};

}  // namespace hearth
