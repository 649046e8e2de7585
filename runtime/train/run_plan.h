// What `auto` means for a run, once its machines are known.
#pragma once

#include <optional>

#include "runtime/plan/planner.h"
#include "runtime/train/run_setup.h"

namespace hearth {

struct DecidedPlan {
  ChosenPlan run;
  std::optional<HardwareProfile>
      hardware;  // nullopt: there is no file of it, and nothing was chosen
};

// By rank 0's device and the limits, which are the same on every rank; so is the answer.
// Collective. Figures come from files and never from a clock, so that the same run is decided alike
// again.
DecidedPlan DecidePlan(const ResolvedConfig& resolved, const ModelSpec& spec,
                       const RunEnvironment& environment, const MemoryLimits& limits);

// Of rank 0's backend: the profile of a CPU with its rates as a small matmul measured here says,
// since files cannot know every CPU and who else uses it; other profiles as they are. For
// predictions alone.
HardwareProfile AsMeasured(HardwareProfile profile, KernelBackend& backend);

}  // namespace hearth
