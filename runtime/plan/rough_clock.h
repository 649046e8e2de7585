// The time of a step by that of fewer layers and micro-batches. For comparing many plans; what is
// printed is simulated whole.
#pragma once

#include <vector>

#include "runtime/plan/cost_model.h"

namespace hearth {

class RoughClock {
 public:
  // `hardware` must outlive it.
  RoughClock(const ModelSpec& spec, const HardwareProfile& hardware);

  // Of a step, within a few per cent: by as many layers as it takes for what is periodic to grow
  // evenly. Exact to rounding where the model is small, or its micro-batches few.
  double StepSeconds(const Plan& plan) const;
  // By a few layers alone: up to a tenth too short, where the last updates of a step end long after
  // what they hide under. Several times as quick.
  double RoughSeconds(const Plan& plan) const;
  // What all blocks and the head compute, recomputation included: no step takes less.
  double ComputeSeconds(const Plan& plan) const;

 private:
  struct Size {
    std::vector<ModelSpec> cut;        // fewer layers, and a few more; empty for a small model
    int64_t micro_batches_together{};  // where all pass a layer together, as many stand for them
  };

  double Seconds(const Plan& plan, const Size& size) const;
  double OfLayers(const Plan& plan, const ModelSpec& spec, int64_t micro_batches_together) const;

  const ModelSpec& spec_;
  const HardwareProfile& hardware_;
  Size rough_;
  Size fine_;
};

}  // namespace hearth
