// When a sweep gives a run up: a pure function of the curves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/sweep_log.h"
#include "runtime/config/sweep_config.h"

namespace hearth {

// The median of fewer other runs says nothing.
inline constexpr int64_t kLeastOtherRuns = 3;

// Whether `a` is worse than `b`; what is not a number is worse than any.
bool IsWorse(double a, double b, MetricGoal goal);

// What other runs had at a step.
struct Rival {
  const MetricCurve* curve = nullptr;
  int64_t last_step = 0;
};

struct StoppingQuestion {
  const SweepEarlyTerminate& rule;
  MetricGoal goal = MetricGoal::kMinimize;
  int64_t step = 0;  // that the run has passed
  const MetricCurve& curve;
  const std::vector<Rival>& rivals;
};

// Why the run is to be given up at that step, "" when it goes on. Compared are the latest values
// up to the step; the median is that of the rivals that have passed it (HasPassed).
std::string ReasonToStop(const StoppingQuestion& question);

// The steps in (after, until] at which the rule decides.
std::vector<int64_t> DecisionSteps(const SweepEarlyTerminate& rule, int64_t after, int64_t until);

}  // namespace hearth
