// Softmax cross-entropy with z-loss (z * lse^2, arXiv 2204.02311), forward and gradient in one op.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// For each row with targets[i] >= 0, over the first `vocab` columns:
//   losses[i] = lse - logits[target] + z_loss * lse^2
//   d_logits  = *gradient_scale * (softmax * (1 + 2 * z_loss * lse) - onehot(target))
// Masked rows (targets[i] < 0) have loss and gradient 0; so do the columns at or behind `vocab`.
struct CrossEntropyArgs {
  TensorView logits;   // [tokens, stored vocab] f32 | bf16
  TensorView targets;  // [tokens] i32
  int64_t vocab = 0;
  float z_loss = 0.0f;
  TensorView losses;          // [tokens] f32
  TensorView gradient_scale;  // [1] f32, 1 / number of targets of the step; absent: loss only
  TensorView d_logits;        // as logits, may be logits; absent exactly when gradient_scale is
};

void Validate(const CrossEntropyArgs& args);

}  // namespace hearth
