#include "runtime/layers/head.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

namespace {

void FinalNorm(const LayerContext& context, const HeadWeights& weights, const HeadViews& views) {
  context.backend.RmsNormForward(context.stream,
                                 {.x = views.input,
                                  .weight = weights.norm,
                                  .epsilon = static_cast<float>(context.config.rms_norm_eps),
                                  .out = views.normed,
                                  .rstd = views.rstd});
}

void Logits(const LayerContext& context, const TensorView& normed, const TensorView& matrix,
            const TensorView& logits) {
  context.backend.Gemm(context.stream,
                       {.a = normed, .b = matrix, .out = logits, .workspace = context.workspace});
}

// The weight's gradient before the input's: its reduction can start earlier.
void SlabBackward(const LayerContext& context, const HeadWeights& weights,
                  const HeadGradients& gradients, const TensorView& d_logits,
                  const TensorView& normed, const TensorView& d_normed) {
  context.backend.Gemm(context.stream, {.a = d_logits,
                                        .b = normed,
                                        .a_transposed = true,
                                        .b_transposed = true,
                                        .addend = gradients.matrix,
                                        .out = gradients.matrix,
                                        .workspace = context.workspace});
  context.backend.Gemm(context.stream, {.a = d_logits,
                                        .b = weights.matrix,
                                        .b_transposed = true,
                                        .out = d_normed,
                                        .workspace = context.workspace});
}

}  // namespace

void RunHead(const LayerContext& context, const HeadWeights& weights,
             const HeadGradients& gradients, const HeadViews& views, const HeadOptions& options) {
  const int64_t tokens = views.input.shape()[0];
  const int64_t chunk = views.logits.shape()[0];
  const bool backward = static_cast<bool>(views.gradient_scale);
  CHECK(chunk >= tokens || chunk % options.slab_tokens == 0,
        "a head chunk of {} tokens is not whole slabs of {}", chunk, options.slab_tokens);
  FinalNorm(context, weights, views);
  for (int64_t begin = 0; begin < tokens; begin += options.slab_tokens) {
    const int64_t rows = std::min(options.slab_tokens, tokens - begin);
    const TensorView logits = views.logits.Rows(begin % chunk, rows);
    const TensorView normed = views.normed.Rows(begin, rows);
    Logits(context, normed, weights.matrix, logits);
    context.backend.CrossEntropy(context.stream, {.logits = logits,
                                                  .targets = views.targets.Rows(begin, rows),
                                                  .vocab = context.config.vocab_size,
                                                  .z_loss = options.z_loss,
                                                  .losses = views.losses.Rows(begin, rows),
                                                  .gradient_scale = views.gradient_scale,
                                                  .d_logits = backward ? logits : TensorView{}});
    if (backward) {
      SlabBackward(context, weights, gradients, logits, normed, views.d_normed.Rows(begin, rows));
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

void HeadLogits(const LayerContext& context, const HeadWeights& weights, const HeadViews& views) {
  FinalNorm(context, weights, views);
  Logits(context, views.normed, weights.matrix, views.logits);
}

}  // namespace hearth
