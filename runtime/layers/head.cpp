#include "runtime/layers/head.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// One slab of the backward.
struct Slab {
  TensorView logits;    // [rows, stored vocab]; without FP8 their gradient
  TensorView normed;    // [rows, hidden]
  TensorView d_logits;  // [rows, stored vocab] f8, FP8 only
  TensorView d_normed;  // [rows, hidden]
};

// The weight's gradient before the input's: its reduction can start earlier.
void SlabBackward(const LayerContext& context, const HeadWeights& weights,
                  const HeadGradients& gradients, const Slab& slab) {
  context.backend.Gemm(context.stream, {.a = slab.logits,
                                        .b = slab.normed,
                                        .a_transposed = true,
                                        .b_transposed = true,
                                        .addend = gradients.matrix,
                                        .out = gradients.matrix,
                                        .workspace = context.workspace});
  context.backend.Gemm(context.stream, {.a = slab.logits,
                                        .b = weights.matrix.values,
                                        .b_transposed = true,
                                        .out = slab.d_normed,
                                        .workspace = context.workspace});
}

// The same with FP8 operands, which both have to be K-major.
void Fp8SlabBackward(const LayerContext& context, const HeadWeights& weights,
                     const HeadGradients& gradients, const HeadViews& views, const Slab& slab) {
  const int64_t rows = slab.logits.shape()[0];
  const int64_t vocab = slab.logits.shape()[1];
  const int64_t hidden = slab.normed.shape()[1];
  // Nobody reads the logits any more, and they take two bytes each.
  const TensorView d_logits_transposed(slab.logits.data(), slab.d_logits.dtype(), {vocab, rows});
  const TensorView normed_transposed =
      views.normed_transposed.Flat(0, hidden * rows).Reshape({hidden, rows});
  context.backend.Transpose(context.stream,
                            {.input = slab.d_logits, .output = d_logits_transposed});
  context.backend.Transpose(context.stream, {.input = slab.normed, .output = normed_transposed});
  context.backend.Gemm(context.stream, {.a = d_logits_transposed,
                                        .b = normed_transposed,
                                        .a_scale = views.d_logits_scale,
                                        .b_scale = views.normed_scale,
                                        .addend = gradients.matrix,
                                        .out = gradients.matrix,
                                        .workspace = context.workspace});
  context.backend.Gemm(context.stream, {.a = slab.d_logits,
                                        .b = weights.matrix.transposed,
                                        .a_scale = views.d_logits_scale,
                                        .b_scale = weights.matrix.scale,
                                        .out = slab.d_normed,
                                        .workspace = context.workspace});
}

}  // namespace

void HeadNorm(const LayerContext& context, const HeadWeights& weights, const HeadViews& views) {
  RmsNormForwardArgs args{.x = views.input,
                          .weight = weights.norm,
                          .epsilon = static_cast<float>(context.config.rms_norm_eps),
                          .rstd = views.rstd};
  if (context.precision.fp8_head) {
    // Also under verified scales: a second pass costs nothing beside the logits.
    args.quantized = {
        .values = views.normed, .scale = views.normed_scale, .mode = ScaleMode::kCurrent};
  } else {
    args.out = views.normed;
  }
  context.backend.RmsNormForward(context.stream, args);
}

void HeadLogits(const LayerContext& context, const HeadWeights& weights, const HeadViews& views,
                int64_t begin, const TensorView& logits) {
  context.backend.Gemm(context.stream, {.a = views.normed.Rows(begin, logits.shape()[0]),
                                        .b = weights.matrix.values,
                                        .a_scale = views.normed_scale,
                                        .b_scale = weights.matrix.scale,
                                        .out = logits,
                                        .workspace = context.workspace,
                                        .fast_accumulation = context.precision.fp8_head &&
                                                             context.precision.fast_accumulation});
}

void RunHead(const LayerContext& context, const HeadWeights& weights,
             const HeadGradients& gradients, const HeadViews& views, const HeadOptions& options) {
  const int64_t tokens = views.input.shape()[0];
  const int64_t chunk = views.logits.shape()[0];
  const bool backward = static_cast<bool>(views.gradient_scale);
  const bool fp8_backward = backward && context.precision.fp8_head;
  CHECK(chunk >= tokens || chunk % options.slab_tokens == 0,
        "a head chunk of {} tokens is not whole slabs of {}", chunk, options.slab_tokens);
  HeadNorm(context, weights, views);
  for (int64_t begin = 0; begin < tokens; begin += options.slab_tokens) {
    const int64_t rows = std::min(options.slab_tokens, tokens - begin);
    Slab slab{.logits = views.logits.Rows(begin % chunk, rows),
              .normed = views.normed.Rows(begin, rows)};
    if (fp8_backward) slab.d_logits = views.d_logits.Rows(0, rows);
    HeadLogits(context, weights, views, begin, slab.logits);
    context.backend.CrossEntropy(context.stream, {.logits = slab.logits,
                                                  .targets = views.targets.Rows(begin, rows),
                                                  .vocab = context.config.vocab_size,
                                                  .z_loss = options.z_loss,
                                                  .losses = views.losses.Rows(begin, rows),
                                                  .gradient_scale = views.gradient_scale,
                                                  .d_logits = fp8_backward ? slab.d_logits
                                                              : backward   ? slab.logits
                                                                           : TensorView{},
                                                  .d_logits_scale = views.d_logits_scale});
    if (!backward) continue;
    slab.d_normed = views.d_normed.Rows(begin, rows);
    if (fp8_backward) {
      Fp8SlabBackward(context, weights, gradients, views, slab);
    } else {
      SlabBackward(context, weights, gradients, slab);
    }
  }
  context.backend.AddFixedPoint(
      context.stream, {.input = views.losses, .terms = SumTerms::kElements, .sum = views.loss_sum});
  if (!backward) return;
  context.backend.RmsNormBackward(context.stream, {.d_out = views.d_normed,
                                                   .x = views.input,
                                                   .weight = weights.norm,
                                                   .rstd = views.rstd,
                                                   .d_x = views.d_input,
                                                   .d_weight = gradients.norm,
                                                   .workspace = context.workspace});
}

}  // namespace hearth
