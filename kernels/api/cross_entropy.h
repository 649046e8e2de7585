// Softmax cross-entropy with z-loss (z * lse^2, arXiv 2204.02311), forward and gradient in one op.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// For each row with targets[i] >= 0, over the first `vocab` columns:
//   losses[i] = lse - logits[target] + z_loss * lse^2
//   d_logits  = *gradient_scale * (softmax * (1 + 2 * z_loss * lse) - onehot(target))
// Masked rows (targets[i] < 0) have loss and gradient 0; so do the columns at or behind `vocab`.
//
// In FP8 d_logits = Round(s * (softmax * (1 + 2 * z_loss * lse) - onehot(target))), to nearest,
// with s = LogitGradientScale(z_loss): what is rounded is not rounded to the type of the logits
// first, and the bytes do not depend on *gradient_scale, which enters the record.
struct CrossEntropyArgs {
  TensorView logits;   // [tokens, stored vocab] f32 | bf16
  TensorView targets;  // [tokens] i32
  int64_t vocab = 0;
  float z_loss = 0.0f;
  TensorView losses;          // [tokens] f32
  TensorView gradient_scale;  // [1] f32, 1 / number of targets of the step; absent: loss only
  TensorView d_logits;        // as logits, may be logits; absent exactly when gradient_scale is
  // Instead of the type of the logits d_logits may be f8_e5m2, disjoint from them. Then, and only
  // then, the op writes the ScaleRecord {*gradient_scale / s, s / *gradient_scale, 0, 0}.
  TensorView d_logits_scale;  // [4] f32
};

// The power of two that an FP8 gradient is multiplied with before it is rounded. As 0 <= softmax <=
// 1, |softmax * (1 + 2 * z_loss * lse) - onehot| <= 1 + 2 * z_loss * |lse|: the scale is the
// largest power of two, at most 2^15, for which this stays within E5M2's 57344 while |lse| <= 4096.
// Beyond, which finite weights do not reach in practice and only z_loss > 0 knows, a gradient
// saturates.
float LogitGradientScale(float z_loss);

void Validate(const CrossEntropyArgs& args);

}  // namespace hearth
