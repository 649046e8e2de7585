// The amaxes of FP8 tensors that the log holds.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/telemetry/json_lines_log.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Amaxes = std::map<std::string, double>;

// By step, those of the steps that have any.
std::map<int64_t, Amaxes> AmaxesOf(const TrainingRunResult& run) {
  std::map<int64_t, Amaxes> all;
  std::istringstream lines(run.log);
  for (std::string line; std::getline(lines, line);) {
    const auto record = ParseJsonLine(line);
    if (!record) continue;
    for (const auto& [name, value] : record->values) {
      if (name.starts_with("fp8/amax/")) all[record->step][name] = *record->Number(name);
    }
  }
  return all;
}

TrainingRunResult Train(const std::string& precision, TrainingKeys more = {}, int ranks = 1,
                        int64_t steps = 6) {
  TrainingKeys keys = PrecisionKeys(precision);
  keys.insert(keys.end(), more.begin(), more.end());
  return TrainInProcess({.ranks = ranks, .keys = keys, .steps = steps});
}

const TrainingKeys kEveryStep = {{"logging", "fp8_amax_steps: 1"}};

TEST(Fp8AmaxLog, EveryTensorOfEveryLayerUnderBothRecipes) {
  for (const char* precision : {"fp8", "fp8_verified"}) {
    const auto all = AmaxesOf(Train(precision, kEveryStep));
    ASSERT_EQ(all.size(), 6u) << precision;
    for (const auto& [step, amaxes] : all) {
      EXPECT_EQ(amaxes.size(), 16u);
      for (const char* tensor :
           {"ln1", "attention", "ln2", "swiglu", "d_output", "d_residual", "d_gate_up", "d_qkv"}) {
        for (const int layer : {0, 1}) {
          const auto found = amaxes.find(fmt::format("fp8/amax/{}/{}", tensor, layer));
          ASSERT_NE(found, amaxes.end()) << tensor << layer;
          EXPECT_TRUE(std::isfinite(found->second) && found->second > 0) << tensor << layer;
        }
      }
    }
  }
}

// A normed row of n numbers has a root mean square of one (its weights begin as ones), so its
// largest number lies between one and the root of n.
TEST(Fp8AmaxLog, TheNormsAmaxIsThatOfANormedRow) {
  const auto all = AmaxesOf(Train("fp8", kEveryStep));
  for (const char* name : {"fp8/amax/ln1/0", "fp8/amax/ln1/1", "fp8/amax/ln2/0"}) {
    const double amax = all.at(1).at(name);
    EXPECT_FALSE(!(amax > 1 && amax <= std::sqrt(48.0) * 1.01)) << name << ": " << amax;
  }
}

// Both recipes quantise the first step alike, so they see the same tensors in it; the largest
// magnitude of all sequences is the same however they are dealt out.
TEST(Fp8AmaxLog, RecipesRanksAndMicroBatchesAgree) {
  const Amaxes first = AmaxesOf(Train("fp8", kEveryStep)).at(1);
  EXPECT_EQ(AmaxesOf(Train("fp8_verified", kEveryStep)).at(1), first);
  TrainingKeys small = kEveryStep;
  small.emplace_back("training", "micro_batch_size: 1");
  const Amaxes one = AmaxesOf(Train("fp8", small)).at(1);
  EXPECT_EQ(AmaxesOf(Train("fp8", small, 2)).at(1), one);
  EXPECT_EQ(AmaxesOf(Train("fp8", small, 3)).at(1), one);
  // What forward makes of a sequence before anything was quantised.
  EXPECT_EQ(one.at("fp8/amax/ln1/0"), first.at("fp8/amax/ln1/0"));
}

TEST(Fp8AmaxLog, ItIsLoggedAsOftenAsAskedForAndChangesNothing) {
  const auto steps_of = [](const TrainingRunResult& run) {
    std::vector<int64_t> steps;
    for (const auto& [step, amaxes] : AmaxesOf(run)) steps.push_back(step);
    return steps;
  };
  const TrainingRunResult never = Train("fp8", {{"logging", "fp8_amax_steps: 0"}}, 2, 11);
  EXPECT_EQ(steps_of(never), std::vector<int64_t>{});
  const TrainingRunResult some = Train("fp8", {{"logging", "fp8_amax_steps: 4"}}, 2, 11);
  EXPECT_EQ(steps_of(some), (std::vector<int64_t>{4, 8, 11}));
  EXPECT_EQ(some.weights, never.weights);
  const TrainingKeys rare = {{"logging", "fp8_amax_steps: 4"}, {"logging", "logging_steps: 3"}};
  EXPECT_EQ(steps_of(Train("fp8", rare, 1, 11)), (std::vector<int64_t>{6, 9, 11}));
  EXPECT_EQ(steps_of(Train("bf16", kEveryStep)), std::vector<int64_t>{});
}

}  // namespace
}  // namespace hearth::test
