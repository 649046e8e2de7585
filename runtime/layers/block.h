// One transformer block, forward and backward, in segments.
#pragma once

#include <span>

#include "runtime/layers/layer_types.h"

namespace hearth {

// The cosines and sines of rotary embedding for positions 0 .. positions-1:
// [positions, head_dim] f32, head_dim/2 cosines, then as many sines. Angles in FP32 as in
// transformers.
std::vector<float> RopeTable(const ModelConfig& config, int64_t positions);

// Runs one segment: reads and writes the views the table names. With `scales` = kGiven (recompute)
// FP8 tensors are quantised with the scales of the first run, so their bytes are the same.
void RunSegment(const LayerContext& context, Segment segment, const BlockWeights& weights,
                const SequenceViews& sequences, const BlockViews& views, ScaleMode scales);

// All segments.
void BlockForward(const LayerContext& context, const BlockWeights& weights,
                  const SequenceViews& sequences, const BlockViews& views);

// Reads kDOutput (gradient of the block's output) and the saved tensors, accumulates weight
// gradients, and leaves the gradient of the block's input in kDOutput. Without FP8 it overwrites
// kGateUp.
void BlockBackward(const LayerContext& context, const BlockWeights& weights,
                   const BlockGradients& gradients, const SequenceViews& sequences,
                   const BlockViews& views);

}  // namespace hearth
