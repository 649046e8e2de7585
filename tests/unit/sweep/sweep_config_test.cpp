#include "runtime/config/sweep_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/sweep/sweep_test_support.h"

namespace hearth::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(SweepConfigTest, EveryKeyIsRead) {
  const SweepConfig sweep = ParseSweep(
      "schema_version: 1\n"
      "base: base.yaml\n"
      "output_dir: elsewhere\n"
      "method: random\n"
      "seed: 7\n"
      "run_cap: 20\n"
      "parameters:\n"
      "  optimizer.learning_rate: {distribution: log_uniform, min: 1.0e-4, max: 1.0e-2}\n"
      "  weight_decay: {values: [0, 0.1]}\n"
      "seeds: [1, 2]\n"
      "exclude: [{weight_decay: 0, seed: 2}]\n"
      "metric: {name: train/loss, goal: maximize}\n"
      "early_terminate: {type: threshold, threshold: 3.5, min_steps: 20, every: 10}\n"
      "schedule: {gpus_per_run: 2, max_parallel: 3, on_failure: stop, retries: 4}\n",
      "folder/my-sweep.yaml");
  EXPECT_EQ(sweep.base, "base.yaml");
  EXPECT_EQ(sweep.output_dir, "elsewhere");
  EXPECT_EQ(sweep.method, SweepMethod::kRandom);
  EXPECT_EQ(sweep.seed, 7);
  EXPECT_EQ(sweep.run_cap, 20);
  EXPECT_THAT(sweep.Keys(),
              ElementsAre("optimizer.learning_rate", "optimizer.weight_decay", "seed"));
  ASSERT_TRUE(sweep.axes[0].draw);
  EXPECT_EQ(sweep.axes[0].draw->distribution, Distribution::kLogUniform);
  EXPECT_EQ(sweep.axes[0].draw->min, 1e-4);
  EXPECT_EQ(sweep.axes[0].draw->max, 1e-2);
  ASSERT_EQ(sweep.exclusions.size(), 1u);
  EXPECT_EQ(sweep.exclusions[0][0].value, "0.0");
  EXPECT_EQ(sweep.metric.name, "train/loss");
  EXPECT_EQ(sweep.metric.goal, MetricGoal::kMaximize);
  EXPECT_EQ(sweep.early_terminate.type, StoppingRule::kThreshold);
  EXPECT_EQ(sweep.early_terminate.threshold, 3.5);
  EXPECT_EQ(sweep.early_terminate.min_steps, 20);
  EXPECT_EQ(sweep.early_terminate.every, 10);
  EXPECT_EQ(sweep.schedule.gpus_per_run, 2);
  EXPECT_EQ(sweep.schedule.max_parallel, 3);
  EXPECT_EQ(sweep.schedule.on_failure, OnFailure::kStop);
  EXPECT_EQ(sweep.schedule.retries, 4);
}

TEST(SweepConfigTest, WhatIsLeftOutHasADefault) {
  const SweepConfig sweep =
      ParseSweep("base: base.yaml\nparameters: {seed: {values: [1]}}\n", "folder/my-sweep.yaml");
  EXPECT_EQ(sweep.output_dir, "runs/my-sweep");
  EXPECT_EQ(sweep.method, SweepMethod::kGrid);
  EXPECT_EQ(sweep.metric.name, "eval/loss");
  EXPECT_EQ(sweep.metric.goal, MetricGoal::kMinimize);
  EXPECT_EQ(sweep.early_terminate.type, StoppingRule::kNone);
  EXPECT_FALSE(sweep.schedule.gpus_per_run || sweep.schedule.max_parallel || sweep.run_cap);
  EXPECT_EQ(sweep.schedule.on_failure, OnFailure::kContinue);
  EXPECT_EQ(sweep.schedule.retries, 0);
}

TEST(SweepConfigTest, EarlyTerminationDoesNotBeginBeforeItsFirstDecision) {
  const SweepConfig sweep =
      Parse("parameters: {seed: {values: [1]}}\nearly_terminate: {type: median, every: 50}\n");
  EXPECT_EQ(sweep.early_terminate.min_steps, 50);
}

struct Refusal {
  const char* text;   // from line 2 on
  const char* place;  // LINE:COLUMN
  const char* what;
  const char* remedy;
};

constexpr Refusal kRefusals[] = {
    {"parametres: {}\n", "2:1", "unknown key 'parametres'", "did you mean 'parameters'?"},
    {"method: girid\nparameters: {}\n", "2:9", "'girid' is not known", "did you mean 'grid'"},
    {"parameters: {optimizer.learning_rat: {values: [1]}}\n", "2:14",
     "no key 'optimizer.learning_rat'", "did you mean 'learning_rate'?"},
    {"parameters: {training.learning_rate: {values: [1]}}\n", "2:14",
     "no key 'training.learning_rate'", "belongs to section 'optimizer'"},
    {"parameters: {optimizer: {learning_rate: {values: [1]}}}\n", "2:14", "no key 'optimizer'",
     "write optimizer.KEY"},
    {"parameters: {learning_rate: {values: [1.0e-3, fast]}}\n", "2:47",
     "'fast' is not a decimal number", "write a number"},
    {"parameters: {learning_rate: {values: [0.001, 1.0e-3]}}\n", "2:46",
     "the same as the value at sweep.yaml:2:39", "remove one"},
    {"parameters: {learning_rate: [0.001]}\n", "2:29", "how it varies", "{values: [...]}"},
    {"parameters: {learning_rate: {values: []}}\n", "2:38", "is empty", "[a, b, ...]"},
    {"parameters: {learning_rate: {valeus: [1]}}\n", "2:30", "unknown key 'valeus'",
     "did you mean 'values'?"},
    {"parameters: {learning_rate: {distribution: uniform, min: 0.1, max: 0.2}}\n", "2:44",
     "needs method: random", "{values: [...]}"},
    {"parameters: {learning_rate: {values: [1]}, optimizer.learning_rate: {values: [2]}}\n", "2:44",
     "given twice", "remove one"},
    {"parameters: {output_dir: {values: [a]}}\n", "2:14", "cannot be varied", "remove it"},
    {"parameters: {checkpoint.resume: {values: [auto]}}\n", "2:14", "cannot be varied",
     "remove it"},
    {"seeds: [1, 2]\nparameters: {seed: {values: [1]}}\n", "2:8", "varies already", "keep one"},
    {"seeds: [1, 1]\n", "2:12", "the same as", "remove one"},
    {"run_cap: 3\n", "1:1", "nothing varies", "add parameters"},
    {"run_cap: 20000\n", "2:10", "20000 is not from 1 to 10000", "write an integer"},
    {"method: random\nparameters: {seed: {values: [1]}}\n", "1:1", "run_cap", "add it"},
    {"seed: 3\nparameters: {learning_rate: {values: [1]}}\n", "2:7", "method random",
     "seeds: [...]"},
    {"method: random\nrun_cap: 2\nparameters: {weight_decay: {distribution: log_uniform, "
     "min: 0, max: 1}}\n",
     "4:61", "logarithms", "above 0"},
    {"method: random\nrun_cap: 2\nparameters: {learning_rate: {distribution: uniform, "
     "min: 2, max: 1}}\n",
     "4:66", "max 1.0 is not above min 2.0", "swap"},
    {"method: random\nrun_cap: 2\nparameters: {learning_rate: {distribution: uniform, "
     "min: -1, max: 1}}\n",
     "4:58", "-1 is not", "write a number"},
    {"method: random\nrun_cap: 2\nparameters: {max_steps: {distribution: int_uniform, "
     "min: 1.5, max: 3}}\n",
     "4:58", "1.5", "an integer"},
    {"groups: [[learning_rate, weight_decay]]\n", "2:11", "has no values in parameters",
     "add optimizer.learning_rate"},
    {"groups: [[{learning_rate: 1, seed: 1}, {seed: 2}]]\n", "2:40", "fewer keys",
     "the same keys in each"},
    {"groups: [[{seed: 1}, learning_rate]]\n", "2:10", "a list of keys or a list of maps", "write"},
    {"method: list\nparameters: {learning_rate: {values: [1]}}\n", "3:13",
     "parameters of method list is not a list", "[{key: value, ...}, ...]"},
    {"method: list\nparameters: [{learning_rate: 1}]\ngroups: [[a, b]]\n", "4:9", "groups",
     "remove it"},
    {"exclude: [{weight_decay: 1}]\nseeds: [1, 2]\n", "2:12",
     "'optimizer.weight_decay' is the same in every run", "that vary: seed"},
    {"metric: {name: eval/lost}\nseeds: [1]\n", "2:16", "no run logs 'eval/lost'",
     "did you mean 'eval/loss'?"},
    {"metric: {goal: min}\nseeds: [1]\n", "2:16", "'min' is not known", "minimize"},
    {"early_terminate: {type: threshold}\nseeds: [1]\n", "2:18", "threshold needs the value",
     "add threshold"},
    {"early_terminate: {type: median, threshold: 1}\nseeds: [1]\n", "2:44", "only type threshold",
     "remove it"},
    {"early_terminate: {every: 5}\nseeds: [1]\n", "2:26", "ever stopped early", "type: median"},
    {"schedule: {max_parallel: 0}\nseeds: [1]\n", "2:26", "0 is not from 1", "an integer"},
    {"schedule: {retrys: 1}\nseeds: [1]\n", "2:12", "unknown key 'retrys'",
     "did you mean 'retries'?"},
};

TEST(SweepConfigTest, ARefusalNamesPlaceAndRemedy) {
  const std::string one = "parameters: {seed: {values: [1]}}\n";
  for (const Refusal& refusal : kRefusals) {
    const std::string error = ErrorOf([&] { Parse(refusal.text); });
    EXPECT_THAT(error, AllOf(StartsWith(std::string("sweep.yaml:") + refusal.place + ": error: "),
                             HasSubstr(refusal.what), HasSubstr(refusal.remedy)))
        << refusal.text;
  }
  EXPECT_THAT(ErrorOf([] { ParseSweep("", "s.yaml"); }), HasSubstr("s.yaml: error: the file is "));
  EXPECT_THAT(ErrorOf([&] { ParseSweep(one, "s.yaml"); }),
              AllOf(StartsWith("s.yaml:1:1: error: "), HasSubstr("add base: RUN.yaml")));
  EXPECT_THAT(ErrorOf([&] { ParseSweep("[1]", "s.yaml"); }), StartsWith("s.yaml:1:1: error: "));
}

}  // namespace
}  // namespace hearth::test
