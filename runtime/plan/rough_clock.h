// The time of a step by that of fewer layers and micro-batches: what is periodic grows evenly. For
// comparing many plans; what is printed is simulated whole.
#pragma once

#include <vector>

#include "runtime/plan/cost_model.h"

namespace hearth {

class RoughClock {
 public:
  // `hardware` must outlive it.
  RoughClock(const ModelSpec& spec, const HardwareProfile& hardware);

  // Of a step. Exact to rounding where the model is small.
  double StepSeconds(const Plan& plan) const;
  // What all blocks and the head compute, recomputation included: no step takes less.
  double ComputeSeconds(const Plan& plan) const;

 private:
  double OfLayers(const Plan& plan, const ModelSpec& spec) const;

  const ModelSpec& spec_;
  const HardwareProfile& hardware_;
  std::vector<ModelSpec> cut_;  // fewer layers, and a few more; empty for a small model
};

}  // namespace hearth
