#include "runtime/config/sweep_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>

#include "tests/unit/sweep/sweep_test_support.h"

namespace hearth::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(SweepRunsTest, AGridHasEveryCombinationTheLastKeyFirst) {
  const SweepRuns runs = Expand(
      "parameters:\n"
      "  learning_rate: {values: [0.1, 0.2]}\n"
      "  weight_decay: {values: [0, 1]}\n"
      "seeds: [5, 6]\n");
  EXPECT_THAT(Values(runs), ElementsAre("0.1 0.0 5", "0.1 0.0 6", "0.1 1.0 5", "0.1 1.0 6",
                                        "0.2 0.0 5", "0.2 0.0 6", "0.2 1.0 5", "0.2 1.0 6"));
  EXPECT_EQ(runs.runs[7].resolved.config.optimizer.learning_rate, 0.2);
  EXPECT_EQ(runs.runs[7].resolved.config.optimizer.weight_decay, 1.0);
  EXPECT_EQ(runs.runs[7].resolved.config.seed, 6);
  EXPECT_EQ(runs.runs[7].resolved.config.training.max_steps, 100);
}

TEST(SweepRunsTest, AValueRemembersWhereItWasGiven) {
  const SweepRuns runs = Expand("parameters:\n  learning_rate: {values: [0.1, 0.2]}\n");
  EXPECT_EQ(runs.runs[1].resolved.Place("optimizer.learning_rate"), "sweep.yaml:3:33");
  EXPECT_EQ(runs.runs[1].resolved.Place("training.max_steps"), "run.yaml:3:23");
}

TEST(SweepRunsTest, GroupsMoveTogether) {
  const std::string by_name =
      "parameters:\n"
      "  learning_rate: {values: [0.1, 0.2]}\n"
      "  z_loss: {values: [0, 1]}\n"
      "  weight_decay: {values: [3, 4]}\n"
      "groups: [[learning_rate, weight_decay]]\n";
  EXPECT_THAT(Parse(by_name).Keys(),
              ElementsAre("optimizer.learning_rate", "optimizer.weight_decay", "training.z_loss"));
  EXPECT_THAT(Values(Expand(by_name)),
              ElementsAre("0.1 3.0 0.0", "0.1 3.0 1.0", "0.2 4.0 0.0", "0.2 4.0 1.0"));
  const std::string by_map =
      "parameters: {z_loss: {values: [0, 1]}}\n"
      "groups:\n"
      "  - - {learning_rate: 0.1, weight_decay: 3}\n"
      "    - {weight_decay: 4, learning_rate: 0.2}\n";
  EXPECT_THAT(Values(Expand(by_map)),
              ElementsAre("0.0 0.1 3.0", "0.0 0.2 4.0", "1.0 0.1 3.0", "1.0 0.2 4.0"));
}

TEST(SweepRunsTest, AGroupNeedsAsManyValuesOfEach) {
  EXPECT_THAT(ErrorOf([] {
                Parse(
                    "parameters:\n"
                    "  learning_rate: {values: [0.1, 0.2]}\n"
                    "  weight_decay: {values: [3, 4, 5]}\n"
                    "groups: [[learning_rate, weight_decay]]\n");
              }),
              AllOf(StartsWith("sweep.yaml:5:26: error: "), HasSubstr("3 values"),
                    HasSubstr("has 2"), HasSubstr("as many")));
}

TEST(SweepRunsTest, ExclusionsLeaveCombinationsOut) {
  const SweepRuns runs = Expand(
      "parameters:\n"
      "  learning_rate: {values: [0.1, 0.2]}\n"
      "  weight_decay: {values: [0, 1]}\n"
      "exclude: [{learning_rate: 2.0e-1, weight_decay: 0.0}]\n");
  EXPECT_THAT(Values(runs), ElementsAre("0.1 0.0", "0.1 1.0", "0.2 1.0"));
  EXPECT_EQ(runs.excluded, 1);
}

TEST(SweepRunsTest, AnExcludedCombinationMayBeWrong) {
  // A warm-up of 50 steps does not fit a run of 20.
  const std::string parameters =
      "parameters:\n"
      "  max_steps: {values: [20, 100]}\n"
      "  warmup_steps: {values: [10, 50]}\n";
  EXPECT_THAT(ErrorOf([&] { Expand(parameters); }),
              AllOf(StartsWith("sweep.yaml:4:31: error: lr_scheduler.warmup_steps: "),
                    HasSubstr("(in the run max_steps 20, warmup_steps 50)")));
  EXPECT_THAT(Values(Expand(parameters + "exclude: [{max_steps: 20, warmup_steps: 50}]\n")),
              ElementsAre("20 10", "100 10", "100 50"));
}

TEST(SweepRunsTest, AnExclusionThatExcludesNothingIsRefused) {
  EXPECT_THAT(ErrorOf([] {
                Expand(
                    "parameters: {learning_rate: {values: [0.1]}}\n"
                    "exclude: [{learning_rate: 0.3}]\n");
              }),
              AllOf(StartsWith("sweep.yaml:3:27: error: no run has learning_rate 0.3"),
                    HasSubstr("remove this exclusion")));
  EXPECT_THAT(ErrorOf([] {
                Expand(
                    "parameters: {learning_rate: {values: [0.1]}}\n"
                    "exclude: [{learning_rate: 0.1}]\n");
              }),
              HasSubstr("every run is excluded"));
}

TEST(SweepRunsTest, AListIsItsRuns) {
  const SweepRuns runs = Expand(
      "method: list\n"
      "parameters:\n"
      "  - {learning_rate: 0.1}\n"
      "  - {learning_rate: 0.2, model.name_or_path: \"a folder: two\"}\n"
      "  - {weight_decay: 0.5}\n");
  EXPECT_THAT(Values(runs), ElementsAre("0.1 tiny.yaml 0.1", "0.2 \"a folder: two\" 0.1",
                                        "0.0003 tiny.yaml 0.5"));
  EXPECT_EQ(runs.runs[1].resolved.config.model.name_or_path, "a folder: two");
}

TEST(SweepRunsTest, TwoRunsThatAreTheSameAreRefused) {
  EXPECT_THAT(ErrorOf([] {
                Expand(
                    "method: list\nparameters: [{learning_rate: 0.1}, {learning_rate: 0.1, "
                    "weight_decay: 0.1}]\n");
              }),
              AllOf(StartsWith("sweep.yaml:3:"), HasSubstr("two runs are the same"),
                    HasSubstr("remove one")));
}

TEST(SweepRunsTest, ListsAndWordsAreValuesToo) {
  const SweepRuns runs = Expand(
      "parameters:\n"
      "  memory.recompute: {values: [none, [swiglu, norm], auto]}\n"
      "  data.datasets: {values: [[{path: a b.hearth}], [{path: c.hearth, weight: 2}]]}\n");
  ASSERT_EQ(runs.runs.size(), 6u);
  const RunConfig& config = runs.runs[3].resolved.config;
  EXPECT_EQ(config.memory.recompute,
            (std::vector<RecomputeItem>{RecomputeItem::kSwiglu, RecomputeItem::kNorm}));
  EXPECT_EQ(config.data.datasets[0].path, "c.hearth");
  EXPECT_EQ(runs.runs[2].resolved.config.data.datasets[0].path, "a b.hearth");
}

TEST(SweepRunsTest, AValueReplacesItsAlternativesOfTheBase) {
  const SweepRuns runs = Expand("parameters: {max_tokens: {values: [6400, 640000]}}\n");
  EXPECT_FALSE(runs.runs[0].resolved.config.training.max_steps);
  EXPECT_EQ(runs.runs[1].resolved.config.training.max_tokens, 640000);
}

TEST(SweepRunsTest, TheCapKeepsTheFirstRuns) {
  const SweepRuns runs =
      Expand("parameters: {learning_rate: {values: [0.1, 0.2, 0.3]}}\nrun_cap: 2\n");
  EXPECT_THAT(Values(runs), ElementsAre("0.1", "0.2"));
  EXPECT_EQ(runs.beyond_cap, 1);
}

TEST(SweepRunsTest, TooManyCombinationsAreRefusedBeforeTheyAreMade) {
  std::string values = "1";
  for (int i = 2; i <= 400; ++i) values += ", " + std::to_string(i);
  EXPECT_THAT(ErrorOf([&] {
                Expand("parameters:\n  seed: {values: [" + values + "]}\n  data_seed: {values: [" +
                       values + "]}\n");
              }),
              HasSubstr("more than 100000 combinations"));
}

constexpr const char* kDraws =
    "method: random\n"
    "run_cap: 12\n"
    "seed: 3\n"
    "parameters:\n"
    "  learning_rate: {distribution: log_uniform, min: 1.0e-5, max: 1.0e-1}\n"
    "  global_batch_size: {values: [4, 8, 16]}\n";

TEST(SweepRunsTest, DrawsAreTheSameEveryTime) {
  EXPECT_EQ(Values(Expand(kDraws)), Values(Expand(kDraws)));
  const std::string text = kDraws;
  std::string other = text;
  other.replace(other.find("seed: 3"), 7, "seed: 4");
  EXPECT_NE(Values(Expand(text)), Values(Expand(other)));
}

TEST(SweepRunsTest, MoreRunsAndOtherKeysLeaveDrawsAlone) {
  const SweepRuns runs = Expand(kDraws);
  std::string text = kDraws;
  text.replace(text.find("12"), 2, "30");
  const SweepRuns more = Expand(text);
  ASSERT_EQ(runs.runs.size(), 12u);
  ASSERT_EQ(more.runs.size(), 30u);
  const SweepRuns wider = Expand(text + "  z_loss: {distribution: uniform, min: 0, max: 1}\n");
  ASSERT_EQ(wider.runs.size(), 30u);
  for (size_t i = 0; i < 30; ++i) {
    if (i < 12) {
      EXPECT_EQ(runs.runs[i].values, more.runs[i].values);
    }
    EXPECT_EQ(more.runs[i].values[0], wider.runs[i].values[0]);
    EXPECT_EQ(more.runs[i].values[1], wider.runs[i].values[1]);
  }
}

TEST(SweepRunsTest, FewValuesAreDrawnOnceEach) {
  const SweepRuns runs = Expand(
      "method: random\nrun_cap: 100\n"
      "parameters:\n"
      "  global_batch_size: {values: [4, 8, 16]}\n"
      "  weight_decay: {values: [0, 1]}\n");
  std::vector<std::string> values = Values(runs);
  std::sort(values.begin(), values.end());
  EXPECT_THAT(values, ElementsAre("16 0.0", "16 1.0", "4 0.0", "4 1.0", "8 0.0", "8 1.0"));
}

TEST(SweepRunsTest, EveryDrawnConfigurationHasAllSeeds) {
  const SweepRuns runs = Expand(std::string(kDraws) + "seeds: [1, 2, 3]\n");
  ASSERT_EQ(runs.runs.size(), 12u);
  std::set<std::string> rates;
  for (size_t i = 0; i < runs.runs.size(); ++i) {
    rates.insert(runs.runs[i].values[0]);
    EXPECT_EQ(runs.runs[i].resolved.config.seed, static_cast<int64_t>(i % 3) + 1);
  }
  EXPECT_EQ(rates.size(), 4u);
}

// Shares of draws below the quartiles of a distribution; five standard deviations are allowed.
void ExpectQuartiles(const SweepDraw& draw, const std::vector<double>& quartiles) {
  constexpr int64_t kDrawCount = 4000;
  std::vector<int> below(quartiles.size(), 0);
  for (int64_t i = 0; i < kDrawCount; ++i) {
    const double value = std::stod(DrawValue(draw, 1, i));
    EXPECT_GE(value, draw.min);
    EXPECT_LE(value, draw.max);
    for (size_t q = 0; q < quartiles.size(); ++q) below[q] += value < quartiles[q] ? 1 : 0;
  }
  for (size_t q = 0; q < quartiles.size(); ++q) {
    const double share = 0.25 * static_cast<double>(q + 1);
    const double bound = 5 * std::sqrt(share * (1 - share) / kDrawCount);
    EXPECT_FALSE(!(std::abs(below[q] / double{kDrawCount} - share) <= bound)) << q;
  }
}

TEST(SweepRunsTest, DistributionsAreWhatTheirNamesSay) {
  ExpectQuartiles({.path = "a", .distribution = Distribution::kUniform, .min = -1, .max = 3},
                  {0, 1, 2});
  ExpectQuartiles(
      {.path = "a", .distribution = Distribution::kLogUniform, .min = 1e-5, .max = 1e-1},
      {1e-4, 1e-3, 1e-2});
  ExpectQuartiles({.path = "a", .distribution = Distribution::kIntUniform, .min = 1, .max = 8},
                  {3, 5, 7});
  // ln(257)/4 a quartile: below 4, 16 and 64 within the rounding of the bounds.
  ExpectQuartiles({.path = "a", .distribution = Distribution::kIntLogUniform, .min = 1, .max = 255},
                  {4, 16, 64});
}

TEST(SweepRunsTest, DrawnNumbersHaveFourDigits) {
  for (int64_t i = 0; i < 100; ++i) {
    std::string text = DrawValue(
        {.path = "a", .distribution = Distribution::kLogUniform, .min = 1e-5, .max = 1e-1}, 1, i);
    text = text.substr(0, text.find('e'));
    text.erase(std::remove(text.begin(), text.end(), '.'), text.end());
    text.erase(0, text.find_first_not_of('0'));
    EXPECT_LE(text.size(), 4u) << text;
  }
}

TEST(SweepRunsTest, ARunsTextReadsBackToTheSameRun) {
  const SweepRuns runs = Expand(
      "parameters:\n"
      "  learning_rate: {values: [0.1, 0.2]}\n"
      "  max_tokens: {values: [64000]}\n"
      "  memory.recompute: {values: [none, [swiglu]]}\n"
      "  compute_dtype: {values: [fp32, fp8]}\n");
  std::set<std::string> identities;
  for (const SweepRun& run : runs.runs) {
    const ResolvedConfig again = ParseConfig({.text = run.resolved.ToYaml(),
                                              .file_name = "x/run.yaml",
                                              .overrides = {},
                                              .features = {}});
    EXPECT_EQ(again.config, run.resolved.config);
    EXPECT_EQ(again.IdentityText(), run.resolved.IdentityText());
    identities.insert(run.resolved.IdentityText());
  }
  EXPECT_EQ(identities.size(), 8u);
}

TEST(SweepRunsTest, NameAndFolderAreNoPartOfTheIdentity) {
  const std::string sweep = "parameters: {learning_rate: {values: [0.1]}}\n";
  const std::string named = "run_name: x\noutput_dir: y\n" + kBase;
  EXPECT_EQ(Expand(sweep).runs[0].resolved.IdentityText(),
            Expand(sweep, named).runs[0].resolved.IdentityText());
  EXPECT_NE(Expand(sweep).runs[0].resolved.IdentityText(),
            Expand(sweep, kBase + "seed: 1\n").runs[0].resolved.IdentityText());
}

// Whatever stands in the file is read or refused: nothing else is thrown.
TEST(SweepRunsTest, AMutatedFileIsReadOrRefused) {
  const std::string text =
      "base: run.yaml\nmethod: random\nrun_cap: 3\nparameters:\n"
      "  learning_rate: {distribution: log_uniform, min: 1.0e-4, max: 1.0e-2}\n"
      "  weight_decay: {values: [0, 0.1]}\n  z_loss: {values: [0, 0.1]}\n"
      "groups: [[weight_decay, z_loss], [{max_steps: 3}, {max_steps: 4}]]\n"
      "seeds: [1, 2]\nexclude: [{weight_decay: 0, seed: 2}]\n"
      "metric: {name: train/loss, goal: maximize}\n"
      "early_terminate: {type: threshold, threshold: 3.5, min_steps: 20, every: 10}\n"
      "schedule: {gpus_per_run: auto, max_parallel: 3, on_failure: stop, retries: 4}\n";
  constexpr std::string_view kSigns = "{}[]:,-# \n\"'0123456789.eabnull";
  std::mt19937 random(1);
  int64_t read = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string mutated = text;
    for (int edits = static_cast<int>(random() % 3); edits >= 0; --edits) {
      const size_t at = random() % mutated.size();
      if (random() % 3 == 0) {
        mutated.erase(at, random() % 12);
      } else if (random() % 2 == 0) {
        mutated[at] = kSigns[random() % kSigns.size()];
      } else {
        mutated.insert(at, mutated.substr(random() % mutated.size(), random() % 20));
      }
    }
    const std::string error = ErrorOf([&] {
      ExpandSweep(ParseSweep(mutated, "sweep.yaml"), kBase, {});
      ++read;
    });
    EXPECT_THAT(error, testing::AnyOf("no error", HasSubstr("sweep.yaml"), HasSubstr("run.yaml")));
  }
  EXPECT_GT(read, 20);
  EXPECT_LT(read, 2980);
}

}  // namespace
}  // namespace hearth::test
