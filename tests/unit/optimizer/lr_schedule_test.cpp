#include "runtime/optimizer/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernels/core/error.h"

namespace hearth {
namespace {

LrSchedulerSection Schedule(LrSchedulerType type, int64_t warmup, double floor) {
  LrSchedulerSection section;
  section.lr_scheduler_type = type;
  section.warmup_steps = warmup;
  section.warmup_ratio.reset();
  section.min_lr_ratio = floor;
  return section;
}

constexpr LrSchedulerType kTypes[] = {LrSchedulerType::kConstant, LrSchedulerType::kLinear,
                                      LrSchedulerType::kCosine, LrSchedulerType::kWsd};

void ExpectNear(double actual, double expected) {
  EXPECT_FALSE(!(std::abs(actual - expected) <= 1e-12 * std::abs(expected)))
      << actual << " instead of " << expected;
}

TEST(LearningRate, WarmUpBeginsWithTheFirstStepAndEndsAtThePeak) {
  for (LrSchedulerType type : kTypes) {
    const LrSchedulerSection section = Schedule(type, 4, 0.1);
    for (int64_t step = 1; step <= 4; ++step) {
      ExpectNear(LearningRate(section, 8.0, step, 100), 2.0 * static_cast<double>(step));
    }
  }
}

TEST(LearningRate, IsNeverZeroNorAboveThePeakAndNeverRisesAfterTheWarmUp) {
  for (LrSchedulerType type : kTypes) {
    for (int64_t total : {1, 2, 3, 10, 57}) {
      for (int64_t warmup = 0; warmup <= total; ++warmup) {
        const LrSchedulerSection section = Schedule(type, warmup, 0.1);
        double previous = 0;
        for (int64_t step = 1; step <= total; ++step) {
          const double rate = LearningRate(section, 3e-4, step, total);
          EXPECT_GT(rate, 0.0) << step << " of " << total;
          EXPECT_LE(rate, 3e-4) << step << " of " << total;
          if (step > warmup + 1) {
            EXPECT_LE(rate, previous) << step << " of " << total;
          }
          previous = rate;
        }
      }
    }
  }
}

TEST(LearningRate, ReachesItsFloorAtTheLastStep) {
  for (LrSchedulerType type :
       {LrSchedulerType::kLinear, LrSchedulerType::kCosine, LrSchedulerType::kWsd}) {
    for (double floor : {0.0, 0.1, 0.5}) {
      const double last = LearningRate(Schedule(type, 3, floor), 2.0, 40, 40);
      EXPECT_FALSE(!(std::abs(last - 2.0 * floor) <= 1e-15)) << last;
    }
  }
  EXPECT_EQ(LearningRate(Schedule(LrSchedulerType::kConstant, 3, 0.1), 2.0, 40, 40), 2.0);
}

TEST(LearningRate, LinearAndCosineInBetween) {
  const LrSchedulerSection linear = Schedule(LrSchedulerType::kLinear, 10, 0.2);
  const LrSchedulerSection cosine = Schedule(LrSchedulerType::kCosine, 10, 0.2);
  for (int64_t step = 11; step <= 110; ++step) {
    const double share = static_cast<double>(step - 10) / 100;
    ExpectNear(LearningRate(linear, 5.0, step, 110), 5.0 - 4.0 * share);
    const double half = std::cos(share * std::numbers::pi / 2);
    const double expected = 1.0 + 4.0 * half * half;  // cos^2(x/2) = (1 + cos x)/2
    ExpectNear(LearningRate(cosine, 5.0, step, 110), expected);
  }
}

TEST(LearningRate, WsdStaysAtThePeakUntilItsDecay) {
  LrSchedulerSection section = Schedule(LrSchedulerType::kWsd, 5, 0.0);
  section.decay_steps = 10;
  for (int64_t step = 5; step <= 40; ++step) EXPECT_EQ(LearningRate(section, 1.0, step, 50), 1.0);
  for (int64_t step = 41; step <= 50; ++step) {
    const double rate = LearningRate(section, 1.0, step, 50);
    EXPECT_FALSE(!(std::abs(rate - static_cast<double>(50 - step) / 10) <= 1e-15)) << step;
  }
}

TEST(LearningRate, AShareOfTheRunIsRoundedUp) {
  LrSchedulerSection section;  // 0.03 of the run
  // 3 % of 40 steps: two.
  ExpectNear(LearningRate(section, 1.0, 1, 40), 0.5);
  EXPECT_EQ(LearningRate(section, 1.0, 2, 40), 1.0);
  EXPECT_LT(LearningRate(section, 1.0, 3, 40), 1.0);
}

TEST(LearningRate, RefusesStepsOutsideTheRun) {
  const LrSchedulerSection section;
  EXPECT_THROW(LearningRate(section, 1.0, 0, 10), CheckError);
  EXPECT_THROW(LearningRate(section, 1.0, 11, 10), CheckError);
}

}  // namespace
}  // namespace hearth
