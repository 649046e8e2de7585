#include "launcher/sweep_stopping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace hearth::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr SweepEarlyTerminate kMedian{.type = StoppingRule::kMedian, .min_steps = 10, .every = 10};

// Values at steps 10, 20, 30, ...
MetricCurve Curve(const std::vector<double>& values) {
  MetricCurve curve;
  for (const double value : values) {
    curve.push_back({.step = std::ssize(curve) * 10 + 10, .value = value});
  }
  return curve;
}

std::string Ask(const SweepEarlyTerminate& rule, int64_t step, const MetricCurve& own,
                const std::vector<MetricCurve>& others, MetricGoal goal = MetricGoal::kMinimize) {
  std::vector<Rival> rivals;
  for (const MetricCurve& curve : others) {
    rivals.push_back({.curve = &curve, .last_step = std::ssize(curve) * 10});
  }
  return ReasonToStop({.rule = rule, .goal = goal, .step = step, .curve = own, .rivals = rivals});
}

TEST(SweepStoppingTest, AMedianRunGoesOnAndAWorseOneDoesNot) {
  const std::vector<MetricCurve> others = {Curve({5, 1}), Curve({5, 3}), Curve({5, 2})};
  EXPECT_EQ(Ask(kMedian, 20, Curve({5, 2}), others), "");
  EXPECT_EQ(Ask(kMedian, 20, Curve({5, 1.5}), others), "");
  EXPECT_THAT(Ask(kMedian, 20, Curve({5, 2.5}), others),
              HasSubstr("2.5 at step 20 is worse than 2, the median of 3 other runs"));
  EXPECT_EQ(Ask(kMedian, 20, Curve({5, 2.5}), others, MetricGoal::kMaximize), "");
  EXPECT_NE(Ask(kMedian, 20, Curve({5, 1.5}), others, MetricGoal::kMaximize), "");
}

TEST(SweepStoppingTest, OnlyTheStepItselfIsCompared) {
  const std::vector<MetricCurve> others = {Curve({5, 9, 1}), Curve({5, 9, 1}), Curve({5, 9, 1})};
  // Later values of the others, and later ones of its own, do not count.
  EXPECT_EQ(Ask(kMedian, 20, Curve({1, 8, 20}), others), "");
  EXPECT_NE(Ask(kMedian, 30, Curve({1, 8, 20}), others), "");
}

TEST(SweepStoppingTest, RunsThatHaveNotComeSoFarDoNotCount) {
  const std::vector<MetricCurve> two = {Curve({1, 1}), Curve({1, 1}), Curve({1})};
  EXPECT_EQ(Ask(kMedian, 20, Curve({9, 9}), two), "");
  const std::vector<MetricCurve> three = {Curve({1, 1}), Curve({1, 1}), Curve({1, 1})};
  EXPECT_NE(Ask(kMedian, 20, Curve({9, 9}), three), "");
}

TEST(SweepStoppingTest, AStepIsPassedWithItsEvaluation) {
  // The training record of step 20 is there, its evaluation is not.
  EXPECT_FALSE(HasPassed(Curve({5}), 20, 20));
  EXPECT_TRUE(HasPassed(Curve({5, 4}), 20, 20));
  EXPECT_TRUE(HasPassed(Curve({5}), 21, 20));
  EXPECT_FALSE(HasPassed({}, 0, 20));
  const MetricCurve old = Curve({9});
  const MetricCurve own = Curve({5, 5});
  const std::vector<Rival> rivals(3, {.curve = &old, .last_step = 20});
  EXPECT_EQ(ReasonToStop({.rule = kMedian,
                          .goal = MetricGoal::kMaximize,
                          .step = 20,
                          .curve = own,
                          .rivals = rivals}),
            "");
}

TEST(SweepStoppingTest, TheMedianOfAnEvenNumberIsBetweenTheMiddleTwo) {
  const std::vector<MetricCurve> others = {Curve({1}), Curve({2}), Curve({4}), Curve({100})};
  EXPECT_EQ(Ask(kMedian, 10, Curve({3}), others), "");
  EXPECT_NE(Ask(kMedian, 10, Curve({3.01}), others), "");
}

TEST(SweepStoppingTest, NotANumberIsWorseThanEverything) {
  const std::vector<MetricCurve> others = {Curve({1}), Curve({2}), Curve({3})};
  EXPECT_NE(Ask(kMedian, 10, Curve({kNaN}), others), "");
  const std::vector<MetricCurve> broken = {Curve({kNaN}), Curve({2}), Curve({3})};
  EXPECT_EQ(Ask(kMedian, 10, Curve({2.9}), broken), "");
  EXPECT_NE(Ask(kMedian, 10, Curve({3.1}), broken), "");
  EXPECT_TRUE(IsWorse(kNaN, 1, MetricGoal::kMaximize));
  EXPECT_FALSE(IsWorse(1, kNaN, MetricGoal::kMaximize));
  EXPECT_FALSE(IsWorse(kNaN, kNaN, MetricGoal::kMinimize));
}

TEST(SweepStoppingTest, AThresholdNeedsNoOtherRuns) {
  const SweepEarlyTerminate rule{.type = StoppingRule::kThreshold, .threshold = 3};
  EXPECT_EQ(Ask(rule, 10, Curve({3}), {}), "");
  EXPECT_THAT(Ask(rule, 10, Curve({3.5}), {}), HasSubstr("worse than the threshold 3"));
  EXPECT_NE(Ask(rule, 10, Curve({kNaN}), {}), "");
  EXPECT_EQ(Ask(rule, 10, {}, {}), "");
  EXPECT_NE(Ask(rule, 10, Curve({2.5}), {}, MetricGoal::kMaximize), "");
}

TEST(SweepStoppingTest, DecisionsFallOnMultiples) {
  EXPECT_THAT(DecisionSteps(kMedian, 0, 35), ElementsAre(10, 20, 30));
  EXPECT_THAT(DecisionSteps(kMedian, 20, 35), ElementsAre(30));
  EXPECT_THAT(DecisionSteps(kMedian, 30, 39), IsEmpty());
  const SweepEarlyTerminate late{.type = StoppingRule::kMedian, .min_steps = 25, .every = 10};
  EXPECT_THAT(DecisionSteps(late, 0, 40), ElementsAre(30, 40));
  EXPECT_THAT(DecisionSteps({}, 0, 100), IsEmpty());
}

}  // namespace
}  // namespace hearth::test
