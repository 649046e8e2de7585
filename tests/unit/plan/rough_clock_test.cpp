#include "runtime/plan/rough_clock.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/core/error.h"
#include "runtime/plan/step_estimate.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

// More layers and micro-batches than it looks at.
TEST(RoughClock, IsCloseToTheWholeStep) {
  ModelConfig config = SmallConfig();
  config.num_layers = 48;
  const ModelSpec spec = BuildModelSpec(config);
  const HardwareProfile card = SlowCard();
  const RoughClock clock(spec, card);
  for (const char* memory :
       {"", "memory: {recompute: [block]}\n", "memory: {offload: {optimizer: host}}\n",
        "memory: {offload: {residual: host}, recompute: [norm]}\n",
        "memory: {offload: {residual: host}, recompute: [block], schedule: vertical}\n",
        "memory: {offload: {optimizer: host}, schedule: vertical, micro_batches_per_group: 4}\n"}) {
    for (const char* training : {"global_batch_size: 3, micro_batch_size: 1",
                                 "global_batch_size: 24, micro_batch_size: 1"}) {
      for (const int world : {1, 2}) {
        const PlanCase c{.name = "", .more = memory, .training = training, .world = world};
        Plan plan;
        try {
          plan = PlanOf(c, spec);
        } catch (const ConfigError&) {
          continue;  // a group of 4 in a step of fewer
        }
        const double whole = EstimateStep(plan, spec, card).seconds;
        const double error = clock.StepSeconds(plan) / whole - 1;
        EXPECT_FALSE(!(std::abs(error) <= 0.03)) << error << " " << memory << training << world;
        EXPECT_FALSE(!(clock.ComputeSeconds(plan) <= whole));
        const double rough = clock.RoughSeconds(plan) / whole - 1;
        EXPECT_FALSE(!(rough >= -0.12 && rough <= 0.05)) << rough << " " << memory << training;
      }
    }
  }
}

}  // namespace
}  // namespace hearth::test
