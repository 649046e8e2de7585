#include "runtime/plan/boundary_places.h"

namespace hearth {

bool DelaysEmbedding(const Plan& plan, const ModelSpec& spec) {
  return spec.HeadMatrix().unit != spec.head_unit() &&
         plan.micro_batches_per_group < plan.micro_batches &&
         plan.numeric.reduction_order == ReductionOrder::kMicroThenRank;
}

BoundaryPlaces::BoundaryPlaces(const Plan& plan, const ModelSpec& spec)
    : layers_(static_cast<int>(spec.config.num_layers)),
      group_(static_cast<int>(plan.micro_batches_per_group)),
      on_host_(plan.residual == Tier::kHost && !plan.inference),
      gradient_by_micro_batch_(DelaysEmbedding(plan, spec)) {
  gradient_base_ = on_host_ ? 2 * (group_ + 1) : group_ * (layers_ + 1);
  if (plan.inference) return;
  if (gradient_by_micro_batch_) {
    separate_gradients_ = static_cast<int>(plan.micro_batches);
  } else if (!on_host_) {
    separate_gradients_ = group_;
  }
}

int BoundaryPlaces::Input(int layer, int micro_batch) const {
  const int slot = Slot(micro_batch);
  return on_host_ ? layer % 2 * (group_ + 1) + slot : slot * (layers_ + 1) + layer;
}

int BoundaryPlaces::BackwardInput(int layer, int micro_batch) const {
  if (!on_host_) return Input(layer, micro_batch);
  return (layers_ - 1) % 2 * (group_ + 1) + Order(layer, micro_batch) % (group_ + 1);
}

int BoundaryPlaces::Gradient(int micro_batch) const {
  if (gradient_by_micro_batch_) return gradient_base_ + micro_batch;
  const int slot = Slot(micro_batch);
  return on_host_ ? layers_ % 2 * (group_ + 1) + (slot + group_) % (group_ + 1)
                  : gradient_base_ + slot;
}

}  // namespace hearth
