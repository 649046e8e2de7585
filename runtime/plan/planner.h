// Chooses what a configuration leaves to `auto`: a pure function of model, configuration, memory
// and hardware, in under a second.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/plan/memory_budget.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/plan/step_estimate.h"

namespace hearth {

struct PlanRequest {
  const ResolvedConfig& resolved;
  const ModelSpec& spec;
  RankGrid grid = 1;
  const MemoryLimits& limits;
  const HardwareProfile& hardware;  // by its file
  // The same with what was measured of this host; null: nothing was. Only the micro-batch, which is
  // part of the numerics, is chosen by the file: no measurement comes out the same twice.
  const HardwareProfile* here = nullptr;
};

// A setting of everything that was left open.
struct PlanOption {
  KeyValues values;  // of the keys that were auto
  MemoryNeed need;
  bool fits = false;
  double seconds = 0;  // of a step, roughly
};

struct ChosenPlan {
  ResolvedConfig resolved;  // each auto of the ladder with its value, of origin "planner"
  Plan plan;
  bool fits = false;   // else it is the option that breaks the limits least
  KeyValues values;    // that were chosen
  KeyValues usual;     // what the same keys are without a planner
  double seconds = 0;  // of a step, roughly
  // How it came about.
  int64_t options = 0;              // of the ladder
  int64_t looked_at = 0;            // whose memory was counted
  int64_t simulated = 0;            // that fit and could have been the fastest
  std::vector<PlanOption> nearest;  // others: the fastest, then those that do not fit
};

// A step that is slower by less is as good: predictions are not that exact.
inline constexpr double kWorthAChange = 0.005;

// The fastest option that fits; of those hardly slower the one that changes fewest defaults.
// With `memory.plan: manual` nothing is chosen.
ChosenPlan ChoosePlan(const PlanRequest& request);

// What `auto` means where no hardware is known: nothing is chosen.
ChosenPlan LeavePlan(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid,
                     const MemoryLimits& limits);

// Lines for people: what was tried, what did not fit, what would be nearly as fast.
std::string DescribeChoice(const ChosenPlan& run, const MemoryLimits& limits);

}  // namespace hearth
