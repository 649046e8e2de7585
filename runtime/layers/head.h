// What stands before and behind the blocks: the token embedding, and the final norm with the LM
// head and its loss.
#pragma once

#include "runtime/layers/layer_types.h"

namespace hearth {

struct HeadWeights {
  TensorView norm;      // [hidden]
  MatrixWeight matrix;  // [stored vocab, hidden]: the head, or the embedding when tied
};

// Accumulated into.
struct HeadGradients {
  TensorView norm;    // [hidden]
  TensorView matrix;  // [stored vocab, hidden]
};

// N tokens; a slab has as many as one call takes at most. What is "FP8 only" is there with an FP8
// head (Precision::fp8_head) and absent otherwise.
struct HeadViews {
  TensorView input;           // [N, hidden] output of the last block
  TensorView rstd;            // [N] f32
  TensorView normed;          // [N, hidden]; f8_e4m3 with an FP8 head
  TensorView targets;         // [N] i32, negative: masked
  TensorView logits;          // [chunk, stored vocab], one chunk at a time
  TensorView losses;          // [N] f32
  TensorView loss_sum;        // [kFixedPointWords] i64, accumulated
  TensorView gradient_scale;  // [1] f32, 1 / targets of the whole step; absent: forward only
  TensorView d_normed;        // [N, hidden], backward only
  TensorView d_input;         // [N, hidden], backward only

  TensorView normed_scale;       // [4] f32 ScaleRecord of all N rows, FP8 only
  TensorView normed_transposed;  // [hidden, slab] f8_e4m3, FP8 backward only
  TensorView d_logits;           // [slab, stored vocab] f8_e5m2, FP8 backward only
  TensorView d_logits_scale;     // [4] f32, FP8 backward only
};

struct HeadOptions {
  int64_t slab_tokens = 4096;  // rows of one call, forward and backward: part of the numerics
  float z_loss = 0.0f;
};

// Final norm, logits and loss; with gradient_scale also the gradients. Works through the
// micro-batch in chunks as large as `logits`, each in slabs, so that the chunk's size changes no
// bit: an FP8 head's input has one scale for all N rows, the gradient of its logits a scale that is
// known beforehand (kernels/api/cross_entropy.h). An FP8 head's backward writes over `logits`.
void RunHead(const LayerContext& context, const HeadWeights& weights,
             const HeadGradients& gradients, const HeadViews& views, const HeadOptions& options);

// The norm alone, of all N rows.
void HeadNorm(const LayerContext& context, const HeadWeights& weights, const HeadViews& views);

// logits = head(normed rows [begin, begin + rows of `logits`)), behind HeadNorm.
void HeadLogits(const LayerContext& context, const HeadWeights& weights, const HeadViews& views,
                int64_t begin, const TensorView& logits);

}  // namespace hearth
