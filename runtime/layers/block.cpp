#include "runtime/layers/block.h"

#include <algorithm>
#include <cmath>

namespace hearth {

using enum BlockTensor;

TensorView BlockViews::Scale(BlockScale scale) const {
  const TensorView& scales = (*this)[kScales];
  return scales ? scales.Rows(static_cast<int64_t>(scale), 1).Reshape({4}) : TensorView{};
}

std::vector<float> RopeTable(const ModelConfig& config, int64_t positions) {
  const std::vector<float> frequencies = RopeInverseFrequencies(config);
  const int64_t half = config.head_dim / 2;
  std::vector<float> table(static_cast<size_t>(positions * config.head_dim));
  for (int64_t position = 0; position < positions; ++position) {
    float* row = table.data() + position * config.head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * frequencies[static_cast<size_t>(i)];
      row[i] = std::cos(angle);
      row[half + i] = std::sin(angle);
    }
  }
  return table;
}

namespace {

AttentionShape MakeAttentionShape(const ModelConfig& config, const SequenceViews& sequences) {
  return {
      .heads = config.num_heads,
      .kv_heads = config.num_kv_heads,
      .head_dim = config.head_dim,
      .softmax_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim))),
      .sequence_len = sequences.sequence_len};
}

AttentionProvider Provider(const Precision& precision) {
  switch (precision.attention) {
    case AttentionChoice::kOwn:
      return AttentionProvider::kOwn;
    case AttentionChoice::kCudnn:
      return AttentionProvider::kCudnn;
    case AttentionChoice::kAuto:
      break;
  }
  return AttentionProvider::kAuto;
}

QkNormWeights MakeQkNorm(const ModelConfig& config, const BlockWeights& weights) {
  return {
      .q = weights.q_norm, .k = weights.k_norm, .epsilon = static_cast<float>(config.rms_norm_eps)};
}

// The view with everything behind the first axis folded into columns.
TensorView Matrix(const TensorView& view) {
  const int64_t rows = view.shape()[0];
  return view.Reshape({rows, view.elements() / std::max<int64_t>(rows, 1)});
}

// out = input * weight^T (+ bias) (+ addend). Under FP8 `input` is the quantised operand.
void Linear(const LayerContext& context, const TensorView& input, const TensorView& input_scale,
            const MatrixWeight& weight, const TensorView& bias, const TensorView& addend,
            const TensorView& out) {
  context.backend.Gemm(context.stream, {.a = input,
                                        .b = weight.values,
                                        .a_scale = input_scale,
                                        .b_scale = weight.scale,
                                        .bias = bias,
                                        .addend = addend,
                                        .out = out,
                                        .workspace = context.workspace,
                                        .fast_accumulation = context.precision.fast_accumulation});
}

// The operands of one linear's backward.
struct LinearBackwardArgs {
  TensorView d_out;             // [N, n], the storage type; not read under FP8
  TensorView d_out_values;      // [N, n] f8
  TensorView d_out_transposed;  // [n, N] f8
  TensorView d_out_scale;
  TensorView input;             // [N, k]; not read under FP8
  TensorView input_transposed;  // [k, N] f8
  TensorView input_scale;
  const MatrixWeight& weight;  // [n, k]
  TensorView d_input;          // [N, k]
  TensorView d_weight;         // [n, k], accumulated
};

// d_input = d_out * weight and d_weight += d_out^T * input.
void LinearBackward(const LayerContext& context, const LinearBackwardArgs& args) {
  if (context.precision.fp8) {
    context.backend.Gemm(context.stream, {.a = args.d_out_values,
                                          .b = args.weight.transposed,
                                          .a_scale = args.d_out_scale,
                                          .b_scale = args.weight.scale,
                                          .out = args.d_input,
                                          .workspace = context.workspace});
    context.backend.Gemm(context.stream, {.a = args.d_out_transposed,
                                          .b = args.input_transposed,
                                          .a_scale = args.d_out_scale,
                                          .b_scale = args.input_scale,
                                          .addend = args.d_weight,
                                          .out = args.d_weight,
                                          .workspace = context.workspace});
    return;
  }
  context.backend.Gemm(context.stream, {.a = args.d_out,
                                        .b = args.weight.values,
                                        .b_transposed = true,
                                        .out = args.d_input,
                                        .workspace = context.workspace});
  context.backend.Gemm(context.stream, {.a = args.d_out,
                                        .b = args.input,
                                        .a_transposed = true,
                                        .b_transposed = true,
                                        .addend = args.d_weight,
                                        .out = args.d_weight,
                                        .workspace = context.workspace});
}

void Norm(const LayerContext& context, const TensorView& x, const TensorView& weight,
          const TensorView& out, const QuantizedOutput& quantized, const TensorView& rstd) {
  context.backend.RmsNormForward(context.stream,
                                 {.x = x,
                                  .weight = weight,
                                  .epsilon = static_cast<float>(context.config.rms_norm_eps),
                                  .out = out,
                                  .quantized = quantized,
                                  .rstd = rstd});
}

void QkvRope(const LayerContext& context, const BlockWeights& weights,
             const SequenceViews& sequences, const BlockViews& views) {
  const bool fp8 = context.precision.fp8;
  const QkNormWeights norm = MakeQkNorm(context.config, weights);
  const TensorView projected = norm ? views[kQkvProjected] : views[kQkv];
  Linear(context, fp8 ? views[kLn1Values] : views[kLn1], views.Scale(BlockScale::kLn1), weights.qkv,
         weights.qkv_bias, {}, Matrix(projected));
  context.backend.RopeForward(context.stream, {.heads = context.config.num_heads,
                                               .kv_heads = context.config.num_kv_heads,
                                               .qkv = projected,
                                               .positions = sequences.positions,
                                               .cos_sin = sequences.cos_sin,
                                               .norm = norm,
                                               .rstd = views[kQkRstd],
                                               .out = views[kQkv]});
}

void OutputAdd(const LayerContext& context, const BlockWeights& weights, const BlockViews& views,
               ScaleMode scales) {
  TensorView attention = Matrix(views[kAttention]);
  const TensorView scale = views.Scale(BlockScale::kAttention);
  if (context.precision.fp8) {
    context.backend.Quantize(
        context.stream,
        {.input = attention,
         .output = {.values = views[kAttentionValues], .scale = scale, .mode = scales}});
    attention = views[kAttentionValues];
  }
  Linear(context, attention, scale, weights.o, {}, views[kInput], views[kResidual]);
}

// The gradient of a block's output as the two FP8 operands of a linear's backward.
void QuantizeGradient(const LayerContext& context, const TensorView& gradient,
                      const TensorView& values, const TensorView& transposed,
                      const TensorView& scale) {
  if (!context.precision.fp8) return;
  context.backend.Quantize(
      context.stream,
      {.input = Matrix(gradient),
       .output = {
           .values = values, .transposed = transposed, .scale = scale, .mode = context.scales}});
}

void NormBackward(const LayerContext& context, const TensorView& x, const TensorView& weight,
                  const TensorView& rstd, const TensorView& d_weight, const BlockViews& views) {
  context.backend.RmsNormBackward(context.stream, {.d_out = views[kDNorm],
                                                   .x = x,
                                                   .weight = weight,
                                                   .rstd = rstd,
                                                   .d_residual = views[kDOutput],
                                                   .d_x = views[kDOutput],
                                                   .d_weight = d_weight,
                                                   .workspace = context.workspace});
}

// From the gradient of the block's output to that of the residual between attention and FFN.
void FfnBackward(const LayerContext& context, const BlockWeights& weights,
                 const BlockGradients& gradients, const BlockViews& views) {
  const TensorView d_out_scale = views.Scale(BlockScale::kDOutput);
  QuantizeGradient(context, views[kDOutput], views[kDOutputValues], views[kDOutputTransposed],
                   d_out_scale);
  LinearBackward(context, {.d_out = views[kDOutput],
                           .d_out_values = views[kDOutputValues],
                           .d_out_transposed = views[kDOutputTransposed],
                           .d_out_scale = d_out_scale,
                           .input = views[kSwiglu],
                           .input_transposed = views[kSwigluTransposed],
                           .input_scale = views.Scale(BlockScale::kSwiglu),
                           .weight = weights.down,
                           .d_input = views[kDSwiglu],
                           .d_weight = gradients.down});
  const TensorView d_gate_up_scale = views.Scale(BlockScale::kDGateUp);
  SwigluBackwardArgs swiglu{.d_out = views[kDSwiglu], .gate_up = views[kGateUp]};
  if (context.precision.fp8) {
    swiglu.quantized = {.values = views[kDGateUpValues],
                        .transposed = views[kDGateUpTransposed],
                        .scale = d_gate_up_scale,
                        .mode = context.scales};
  } else {
    swiglu.d_gate_up = views[kGateUp];
  }
  context.backend.SwigluBackward(context.stream, swiglu);
  LinearBackward(context, {.d_out = views[kGateUp],
                           .d_out_values = views[kDGateUpValues],
                           .d_out_transposed = views[kDGateUpTransposed],
                           .d_out_scale = d_gate_up_scale,
                           .input = views[kLn2],
                           .input_transposed = views[kLn2Transposed],
                           .input_scale = views.Scale(BlockScale::kLn2),
                           .weight = weights.gate_up,
                           .d_input = views[kDNorm],
                           .d_weight = gradients.gate_up});
  NormBackward(context, views[kResidual], weights.norm2, views[kRstd2], gradients.norm2, views);
}

// The o linear and attention itself: from the residual's gradient to that of the rotated q, k, v.
void AttentionPartBackward(const LayerContext& context, const BlockWeights& weights,
                           const BlockGradients& gradients, const SequenceViews& sequences,
                           const BlockViews& views) {
  const TensorView d_scale = views.Scale(BlockScale::kDResidual);
  QuantizeGradient(context, views[kDOutput], views[kDOutputValues], views[kDOutputTransposed],
                   d_scale);
  const TensorView attention_scale = views.Scale(BlockScale::kAttention);
  if (context.precision.fp8) {
    context.backend.Quantize(context.stream, {.input = Matrix(views[kAttention]),
                                              .output = {.transposed = views[kAttentionTransposed],
                                                         .scale = attention_scale,
                                                         .mode = ScaleMode::kGiven}});
  }
  LinearBackward(context, {.d_out = views[kDOutput],
                           .d_out_values = views[kDOutputValues],
                           .d_out_transposed = views[kDOutputTransposed],
                           .d_out_scale = d_scale,
                           .input = Matrix(views[kAttention]),
                           .input_transposed = views[kAttentionTransposed],
                           .input_scale = attention_scale,
                           .weight = weights.o,
                           .d_input = Matrix(views[kDAttention]),
                           .d_weight = gradients.o});
  context.backend.AttentionBackward(context.stream,
                                    {.shape = MakeAttentionShape(context.config, sequences),
                                     .qkv = views[kQkv],
                                     .sequence_offsets = sequences.sequence_offsets,
                                     .out = views[kAttention],
                                     .log_sum_exp = views[kLogSumExp],
                                     .d_out = views[kDAttention],
                                     .d_qkv = views[kDQkv],
                                     .workspace = context.attention_workspace,
                                     .provider = Provider(context.precision)});
}

void QkvBackward(const LayerContext& context, const BlockWeights& weights,
                 const BlockGradients& gradients, const SequenceViews& sequences,
                 const BlockViews& views) {
  context.backend.RopeBackward(context.stream, {.heads = context.config.num_heads,
                                                .kv_heads = context.config.num_kv_heads,
                                                .d_out = views[kDQkv],
                                                .positions = sequences.positions,
                                                .cos_sin = sequences.cos_sin,
                                                .norm = MakeQkNorm(context.config, weights),
                                                .qkv = views[kQkvProjected],
                                                .rstd = views[kQkRstd],
                                                .d_norm_q = gradients.q_norm,
                                                .d_norm_k = gradients.k_norm,
                                                .d_qkv = views[kDQkv],
                                                .workspace = context.workspace});
  const TensorView d_qkv = Matrix(views[kDQkv]);
  if (gradients.qkv_bias) {
    context.backend.ColumnSum(
        context.stream,
        {.input = d_qkv, .out = gradients.qkv_bias, .workspace = context.workspace});
  }
  const TensorView d_scale = views.Scale(BlockScale::kDQkv);
  QuantizeGradient(context, d_qkv, views[kDQkvValues], views[kDQkvTransposed], d_scale);
  LinearBackward(context, {.d_out = d_qkv,
                           .d_out_values = views[kDQkvValues],
                           .d_out_transposed = views[kDQkvTransposed],
                           .d_out_scale = d_scale,
                           .input = views[kLn1],
                           .input_transposed = views[kLn1Transposed],
                           .input_scale = views.Scale(BlockScale::kLn1),
                           .weight = weights.qkv,
                           .d_input = views[kDNorm],
                           .d_weight = gradients.qkv});
  NormBackward(context, views[kInput], weights.norm1, views[kRstd1], gradients.norm1, views);
}

// The FP8 form of a segment's output; absent without FP8.
QuantizedOutput Quantized(const LayerContext& context, const BlockViews& views, BlockTensor values,
                          BlockTensor transposed, BlockScale scale, ScaleMode mode) {
  if (!context.precision.fp8) return {};
  return {.values = views[values],
          .transposed = views[transposed],
          .scale = views.Scale(scale),
          .mode = mode};
}

}  // namespace

void RunSegment(const LayerContext& context, Segment segment, const BlockWeights& weights,
                const SequenceViews& sequences, const BlockViews& views, ScaleMode scales) {
  const bool fp8 = context.precision.fp8;
  switch (segment) {
    case Segment::kNorm1:
      return Norm(context, views[kInput], weights.norm1, views[kLn1],
                  Quantized(context, views, kLn1Values, kLn1Transposed, BlockScale::kLn1, scales),
                  views[kRstd1]);
    case Segment::kQkvRope:
      return QkvRope(context, weights, sequences, views);
    case Segment::kAttention:
      return context.backend.AttentionForward(
          context.stream, {.shape = MakeAttentionShape(context.config, sequences),
                           .qkv = views[kQkv],
                           .sequence_offsets = sequences.sequence_offsets,
                           .out = views[kAttention],
                           .log_sum_exp = views[kLogSumExp],
                           .workspace = context.attention_workspace,
                           .provider = Provider(context.precision)});
    case Segment::kOutputAdd:
      return OutputAdd(context, weights, views, scales);
    case Segment::kNorm2:
      return Norm(context, views[kResidual], weights.norm2, views[kLn2],
                  Quantized(context, views, kLn2Values, kLn2Transposed, BlockScale::kLn2, scales),
                  views[kRstd2]);
    case Segment::kUp:
      return Linear(context, fp8 ? views[kLn2Values] : views[kLn2], views.Scale(BlockScale::kLn2),
                    weights.gate_up, {}, {}, views[kGateUp]);
    case Segment::kSwiglu:
      return context.backend.SwigluForward(
          context.stream, {.gate_up = views[kGateUp],
                           .out = views[kSwiglu],
                           .quantized = Quantized(context, views, kSwigluValues, kSwigluTransposed,
                                                  BlockScale::kSwiglu, scales)});
    case Segment::kDown:
      return Linear(context, fp8 ? views[kSwigluValues] : views[kSwiglu],
                    views.Scale(BlockScale::kSwiglu), weights.down, {}, views[kResidual],
                    views[kOutput]);
  }
}

void BlockForward(const LayerContext& context, const BlockWeights& weights,
                  const SequenceViews& sequences, const BlockViews& views) {
  for (int segment = 0; segment < kSegmentCount; ++segment) {
    RunSegment(context, static_cast<Segment>(segment), weights, sequences, views, context.scales);
  }
}

void BlockBackward(const LayerContext& context, const BlockWeights& weights,
                   const BlockGradients& gradients, const SequenceViews& sequences,
                   const BlockViews& views) {
  FfnBackward(context, weights, gradients, views);
  AttentionPartBackward(context, weights, gradients, sequences, views);
  QkvBackward(context, weights, gradients, sequences, views);
}

}  // namespace hearth
