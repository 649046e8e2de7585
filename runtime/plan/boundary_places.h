// Where the inputs of layers and their gradients lie on the device, for the micro-batches of a
// group: buffers of [N, hidden], by number. Shared by the memory layout, the schedule and the
// stores.
#pragma once

#include "runtime/plan/plan.h"

namespace hearth {

// On the device alone: a buffer for every layer's input and one for the gradient, of each
// micro-batch of a group. With inputs on the host: two arrays of G + 1 buffers, G the micro-batches
// of a group. Forward reads a layer's inputs from one and writes its outputs to the other, in
// turns. In the backward the array of the last layer's inputs takes the inputs that come back, one
// more than a group ahead of their use, and the other takes the gradients: the head writes that of
// micro-batch s over the output of micro-batch s - 1, which it has read.
class BoundaryPlaces {
 public:
  BoundaryPlaces(const Plan& plan, const ModelSpec& spec);

  int count() const { return gradient_base_ + separate_gradients_; }
  // Of the kept tensors of a layer and micro-batch, in [0, kept_count()).
  int Kept(int layer, int micro_batch) const { return Slot(micro_batch) * layers_ + layer; }
  int kept_count() const { return group_ * layers_; }
  // The input of a layer in the forward; of `layers`: the last output.
  int Input(int layer, int micro_batch) const;
  int BackwardInput(int layer, int micro_batch) const;
  // The gradient of the residual stream.
  int Gradient(int micro_batch) const;
  // Whether a layer's input waits for the backward on the host. The last layer's needs not.
  bool Offloaded(int layer) const { return on_host_ && layer + 1 < layers_; }
  int Host(int layer, int micro_batch) const { return Slot(micro_batch) * (layers_ - 1) + layer; }
  int host_count() const { return on_host_ ? group_ * (layers_ - 1) : 0; }
  // A layer's input is used by the backward as number Order of its group; it may come back when
  // those up to Order - lead() have been used.
  int Order(int layer, int micro_batch) const {
    return (layers_ - 1 - layer) * group_ + Slot(micro_batch);
  }
  int lead() const { return group_ + 1; }
  int Slot(int micro_batch) const { return micro_batch % group_; }

 private:
  const int layers_;
  const int group_;
  const bool on_host_;
  const bool gradient_by_micro_batch_;
  int separate_gradients_ = 0;
  int gradient_base_ = 0;
};

// The parts of the gradient of a tied table are added in an order that every schedule can have: all
// the head's, then all the embedding's. With several groups the gradients of the embedding's output
// have to wait for that.
bool DelaysEmbedding(const Plan& plan, const ModelSpec& spec);

}  // namespace hearth
