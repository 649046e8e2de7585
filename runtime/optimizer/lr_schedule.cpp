#include "runtime/optimizer/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/core/check.h"

namespace hearth {

double LearningRate(const LrSchedulerSection& scheduler, double peak, int64_t step,
                    int64_t total_steps) {
  CHECK(step >= 1 && step <= total_steps, "learning rate of step {} of {}", step, total_steps);
  const int64_t warmup = WarmupSteps(scheduler, total_steps);
  if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  const double floor = peak * scheduler.min_lr_ratio;
  // How far the decay from `begin` (at the peak) to the last step has come, 0 to 1.
  const auto progress = [&](int64_t begin) {
    const int64_t length = total_steps - begin;
    if (length <= 0) return 1.0;
    return std::clamp(static_cast<double>(step - begin) / static_cast<double>(length), 0.0, 1.0);
  };
  switch (scheduler.lr_scheduler_type) {
    case LrSchedulerType::kConstant:
      return peak;
    case LrSchedulerType::kLinear:
      return peak + (floor - peak) * progress(warmup);
    case LrSchedulerType::kCosine:
      return floor + (peak - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress(warmup)));
    case LrSchedulerType::kWsd: {
      const int64_t decay = scheduler.decay_steps.value_or(std::max<int64_t>(total_steps / 10, 1));
      return peak + (floor - peak) * progress(std::max(warmup, total_steps - decay));
    }
  }
  return peak;
}

}  // namespace hearth
