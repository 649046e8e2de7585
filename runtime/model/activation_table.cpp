#include "runtime/model/activation_table.h"

#include <array>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::array<std::string_view, kSegmentCount> kSegmentNames = {
    "norm1", "qkv_rope", "attention", "output_add", "norm2", "up", "swiglu", "down"};

constexpr std::array<std::string_view, kBlockTensorCount> kTensorNames = {
    "input",
    "rstd1",
    "ln1",
    "ln1_values",
    "ln1_transposed",
    "qkv_projected",
    "qk_rstd",
    "qkv",
    "attention",
    "log_sum_exp",
    "attention_values",
    "attention_transposed",
    "residual",
    "rstd2",
    "ln2",
    "ln2_values",
    "ln2_transposed",
    "gate_up",
    "swiglu",
    "swiglu_values",
    "swiglu_transposed",
    "output",
    "scales",
    "d_output",
    "d_output_values",
    "d_output_transposed",
    "d_swiglu",
    "d_gate_up_values",
    "d_gate_up_transposed",
    "d_norm",
    "d_attention",
    "d_qkv",
    "d_qkv_values",
    "d_qkv_transposed",
};

constexpr uint64_t Bit(BlockTensor tensor) { return uint64_t{1} << static_cast<int>(tensor); }

// The forward tensors a segment reads; kInput and parameters are always there.
std::vector<BlockTensor> SegmentInputs(Segment segment, bool fp8) {
  switch (segment) {
    case Segment::kNorm1:
      return {};
    case Segment::kQkvRope:
      return {fp8 ? BlockTensor::kLn1Values : BlockTensor::kLn1};
    case Segment::kAttention:
      return {BlockTensor::kQkv};
    case Segment::kOutputAdd:
      return {BlockTensor::kAttention};
    case Segment::kNorm2:
      return {BlockTensor::kResidual};
    case Segment::kUp:
      return {fp8 ? BlockTensor::kLn2Values : BlockTensor::kLn2};
    case Segment::kSwiglu:
      return {BlockTensor::kGateUp};
    case Segment::kDown:
      return {fp8 ? BlockTensor::kSwigluValues : BlockTensor::kSwiglu, BlockTensor::kResidual};
  }
  return {};
}

// The saved tensors that a wish of the configuration drops.
std::vector<BlockTensor> Dropped(RecomputeItem item) {
  switch (item) {
    case RecomputeItem::kSwiglu:
      return {BlockTensor::kSwiglu, BlockTensor::kSwigluTransposed};
    case RecomputeItem::kNorm:
      return {BlockTensor::kLn1, BlockTensor::kLn1Transposed, BlockTensor::kLn2,
              BlockTensor::kLn2Transposed};
    case RecomputeItem::kFfn:
      return {BlockTensor::kLn2, BlockTensor::kLn2Transposed, BlockTensor::kGateUp,
              BlockTensor::kSwiglu, BlockTensor::kSwigluTransposed};
    case RecomputeItem::kQkv:
      return {BlockTensor::kQkvProjected, BlockTensor::kQkv};
    case RecomputeItem::kAttention:
      return {BlockTensor::kAttention};
    case RecomputeItem::kBlock:
      return {BlockTensor::kLn1,    BlockTensor::kLn1Transposed,   BlockTensor::kQkvProjected,
              BlockTensor::kQkv,    BlockTensor::kAttention,       BlockTensor::kResidual,
              BlockTensor::kLn2,    BlockTensor::kLn2Transposed,   BlockTensor::kGateUp,
              BlockTensor::kSwiglu, BlockTensor::kSwigluTransposed};
  }
  return {};
}

// Fills the table of one block, row by row.
class TableBuilder {
 public:
  TableBuilder(const ModelConfig& config, const Precision& precision, int64_t tokens)
      : config_(config), precision_(precision), tokens_(tokens), table_(kBlockTensorCount) {
    for (int i = 0; i < kBlockTensorCount; ++i) {
      table_[static_cast<size_t>(i)].tensor = static_cast<BlockTensor>(i);
    }
  }

  std::vector<BlockTensorSpec> Build() {
    AddForward();
    AddBackward();
    return std::move(table_);
  }

 private:
  void Add(BlockTensor tensor, Lifetime lifetime, DType dtype, Shape shape,
           Segment producer = Segment::kNorm1) {
    table_[static_cast<size_t>(tensor)] = {tensor, lifetime, dtype, shape, producer};
  }

  // A matmul operand: plain under bf16 and fp32; under FP8 its values live for one forward and the
  // transposed form, all that backward needs, is saved.
  void AddOperand(BlockTensor plain, BlockTensor values, BlockTensor transposed, int64_t columns,
                  Segment producer) {
    if (!precision_.fp8) {
      Add(plain, Lifetime::kSaved, precision_.storage, {tokens_, columns}, producer);
      return;
    }
    Add(values, Lifetime::kForward, DType::kF8E4M3, {tokens_, columns}, producer);
    Add(transposed, Lifetime::kSaved, DType::kF8E4M3, {columns, tokens_}, producer);
  }

  void AddGradientPair(BlockTensor values, BlockTensor transposed, int64_t columns) {
    if (!precision_.fp8) return;
    Add(values, Lifetime::kBackward, precision_.output_gradient, {tokens_, columns});
    Add(transposed, Lifetime::kBackward, precision_.output_gradient, {columns, tokens_});
  }

  void AddForward() {
    using enum BlockTensor;
    const int64_t n = tokens_, c = config_.hidden_size, f = config_.intermediate_size;
    const int64_t heads = config_.num_heads, kv = config_.num_kv_heads, d = config_.head_dim;
    const DType storage = precision_.storage;
    Add(kInput, Lifetime::kBoundary, storage, {n, c});
    Add(kRstd1, Lifetime::kAlways, DType::kF32, {n}, Segment::kNorm1);
    AddOperand(kLn1, kLn1Values, kLn1Transposed, c, Segment::kNorm1);
    if (config_.qk_norm) {
      Add(kQkvProjected, Lifetime::kSaved, storage, {n, heads + 2 * kv, d}, Segment::kQkvRope);
      Add(kQkRstd, Lifetime::kAlways, DType::kF32, {n, heads + kv}, Segment::kQkvRope);
    }
    Add(kQkv, Lifetime::kSaved, storage, {n, heads + 2 * kv, d}, Segment::kQkvRope);
    Add(kAttention, Lifetime::kSaved, storage, {n, heads, d}, Segment::kAttention);
    Add(kLogSumExp, Lifetime::kAlways, DType::kF32, {heads, n}, Segment::kAttention);
    if (precision_.fp8) {
      Add(kAttentionValues, Lifetime::kForward, DType::kF8E4M3, {n, heads * d},
          Segment::kOutputAdd);
      Add(kAttentionTransposed, Lifetime::kBackward, DType::kF8E4M3, {heads * d, n});
      Add(kScales, Lifetime::kAlways, DType::kF32, {kBlockScaleCount, 4});
    }
    Add(kResidual, Lifetime::kSaved, storage, {n, c}, Segment::kOutputAdd);
    Add(kRstd2, Lifetime::kAlways, DType::kF32, {n}, Segment::kNorm2);
    AddOperand(kLn2, kLn2Values, kLn2Transposed, c, Segment::kNorm2);
    Add(kGateUp, Lifetime::kSaved, storage, {n, 2 * f}, Segment::kUp);
    AddOperand(kSwiglu, kSwigluValues, kSwigluTransposed, f, Segment::kSwiglu);
    Add(kOutput, Lifetime::kBoundary, storage, {n, c}, Segment::kDown);
  }

  void AddBackward() {
    using enum BlockTensor;
    const int64_t n = tokens_, c = config_.hidden_size, f = config_.intermediate_size;
    const int64_t heads = config_.num_heads, kv = config_.num_kv_heads, d = config_.head_dim;
    const DType storage = precision_.storage;
    Add(kDOutput, Lifetime::kBoundary, storage, {n, c});
    AddGradientPair(kDOutputValues, kDOutputTransposed, c);
    Add(kDSwiglu, Lifetime::kBackward, storage, {n, f});
    AddGradientPair(kDGateUpValues, kDGateUpTransposed, 2 * f);
    Add(kDNorm, Lifetime::kBackward, storage, {n, c});
    Add(kDAttention, Lifetime::kBackward, storage, {n, heads, d});
    Add(kDQkv, Lifetime::kBackward, storage, {n, heads + 2 * kv, d});
    AddGradientPair(kDQkvValues, kDQkvTransposed, config_.qkv_size());
  }

  const ModelConfig& config_;
  const Precision& precision_;
  const int64_t tokens_;
  std::vector<BlockTensorSpec> table_;
};

}  // namespace

std::string_view Name(Segment segment) { return kSegmentNames[static_cast<size_t>(segment)]; }
std::string_view Name(BlockScale scale) {
  constexpr std::array<std::string_view, kBlockScaleCount> kNames = {
      "ln1", "attention", "ln2", "swiglu", "d_output", "d_residual", "d_gate_up", "d_qkv"};
  return kNames[static_cast<size_t>(scale)];
}

std::string_view Name(BlockTensor tensor) { return kTensorNames[static_cast<size_t>(tensor)]; }

Precision MakePrecision(const PrecisionSection& section) {
  Precision precision;
  precision.fp8 = section.compute_dtype == ComputeDtype::kFp8;
  const bool fp32 = section.compute_dtype == ComputeDtype::kFp32;
  precision.storage = fp32 ? DType::kF32 : DType::kBF16;
  precision.gradient = fp32 || section.grad_dtype == FloatDtype::kFp32 ? DType::kF32 : DType::kBF16;
  precision.output_gradient =
      section.fp8_format == Fp8Format::kHybrid ? DType::kF8E5M2 : DType::kF8E4M3;
  precision.fast_accumulation = precision.fp8 && section.fp8_fast_accumulation;
  precision.verified_scales = precision.fp8 && section.fp8_recipe == Fp8Recipe::kTensorwiseVerified;
  precision.attention = section.attention_provider;
  precision.fp8_head = precision.fp8 && section.fp8_lm_head;
  return precision;
}

std::string_view LmHeadType(const Precision& precision) {
  if (precision.fp8_head) return "fp8";
  return precision.storage == DType::kF32 ? "fp32" : "bf16";
}

DType FormatOf(BlockScale scale, const Precision& precision) {
  return scale < BlockScale::kDOutput ? DType::kF8E4M3 : precision.output_gradient;
}

std::vector<BlockTensorSpec> BlockTensors(const ModelConfig& config, const Precision& precision,
                                          int64_t tokens) {
  CHECK(tokens > 0 && (!precision.fp8 || tokens % 16 == 0),
        "a micro-batch of {} tokens: FP8 needs multiples of 16", tokens);
  return TableBuilder(config, precision, tokens).Build();
}

RecomputeSet MakeRecomputeSet(const std::vector<RecomputeItem>& items, const ModelConfig& config,
                              const Precision& precision) {
  const std::vector<BlockTensorSpec> table = BlockTensors(config, precision, 16);
  const auto spec = [&](BlockTensor tensor) -> const BlockTensorSpec& {
    return table[static_cast<size_t>(tensor)];
  };
  RecomputeSet set;
  std::array<bool, kSegmentCount> again{};
  for (RecomputeItem item : items) {
    for (BlockTensor tensor : Dropped(item)) {
      if (spec(tensor).lifetime != Lifetime::kSaved) continue;
      set.dropped |= Bit(tensor);
      again[static_cast<size_t>(spec(tensor).producer)] = true;
    }
  }
  // A segment that runs again needs its inputs: those not kept are made again, from the last
  // segment to the first, since parents come earlier.
  for (int s = kSegmentCount - 1; s >= 0; --s) {
    if (!again[static_cast<size_t>(s)]) continue;
    for (BlockTensor input : SegmentInputs(static_cast<Segment>(s), precision.fp8)) {
      const BlockTensorSpec& input_spec = spec(input);
      const bool kept = input_spec.lifetime == Lifetime::kSaved && !set.Drops(input);
      if (!kept) again[static_cast<size_t>(input_spec.producer)] = true;
    }
  }
  for (int s = 0; s < kSegmentCount; ++s) {
    if (again[static_cast<size_t>(s)]) set.segments.push_back(static_cast<Segment>(s));
  }
  return set;
}

double ForwardFlops(Segment segment, const ModelConfig& config, int64_t tokens,
                    int64_t sequence_len) {
  const double n = static_cast<double>(tokens), c = static_cast<double>(config.hidden_size);
  const double f = static_cast<double>(config.intermediate_size);
  switch (segment) {
    case Segment::kQkvRope:
      return 2 * n * c * static_cast<double>(config.qkv_size());
    case Segment::kAttention:
      return 2 * n * static_cast<double>(config.query_size() * sequence_len);
    case Segment::kOutputAdd:
      return 2 * n * c * static_cast<double>(config.query_size());
    case Segment::kUp:
      return 4 * n * c * f;
    case Segment::kDown:
      return 2 * n * c * f;
    case Segment::kNorm1:
    case Segment::kNorm2:
    case Segment::kSwiglu:
      return 0;
  }
  return 0;
}

}  // namespace hearth
