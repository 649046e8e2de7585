// What stands before and behind the blocks: the token embedding, and the final norm with the LM
// head and its loss.
#pragma once

#include "runtime/layers/layer_types.h"

namespace hearth {

struct HeadWeights {
  TensorView norm;    // [hidden]
  TensorView matrix;  // [stored vocab, hidden]: the head, or the embedding when tied
};

// Accumulated into.
struct HeadGradients {
  TensorView norm;    // [hidden]
  TensorView matrix;  // [stored vocab, hidden]
};

struct HeadViews {
  TensorView input;           // [N, hidden] output of the last block
  TensorView rstd;            // [N] f32
  TensorView normed;          // [N, hidden]
  TensorView targets;         // [N] i32, negative: masked
  TensorView logits;          // [chunk, stored vocab], one chunk at a time
  TensorView losses;          // [N] f32
  TensorView loss_sum;        // [kFixedPointWords] i64, accumulated
  TensorView gradient_scale;  // [1] f32, 1 / targets of the whole step; absent: forward only
  TensorView d_normed;        // [N, hidden], backward only
  TensorView d_input;         // [N, hidden], backward only
};

struct HeadOptions {
  int64_t slab_tokens = 4096;  // rows of one call, forward and backward: part of the numerics
  float z_loss = 0.0f;
};

// Final norm, logits and loss; with gradient_scale also the gradients. Works through the
// micro-batch in chunks as large as `logits`, each in slabs, so that the chunk's size changes no
// bit.
void RunHead(const LayerContext& context, const HeadWeights& weights,
             const HeadGradients& gradients, const HeadViews& views, const HeadOptions& options);

// logits = head(norm(input)) alone, for all N rows: `views.logits` holds N rows.
void HeadLogits(const LayerContext& context, const HeadWeights& weights, const HeadViews& views);

}  // namespace hearth
