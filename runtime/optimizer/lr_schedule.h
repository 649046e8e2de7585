// The learning rate of each step.
#pragma once

#include <cstdint>

#include "runtime/config/run_config.h"

namespace hearth {

// Of step 1 .. total_steps. Warm-up is linear from step 1 (peak / warmup_steps) to step
// warmup_steps (the peak). Behind it: constant; linear and cosine from the peak to the floor, which
// they reach at the last step; wsd stays at the peak and falls linearly to the floor over the last
// decay_steps (a tenth of the run unless given). The floor is min_lr_ratio * peak.
double LearningRate(const LrSchedulerSection& scheduler, double peak, int64_t step,
                    int64_t total_steps);

}  // namespace hearth
