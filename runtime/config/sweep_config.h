// sweep.yaml: which runs to make out of one base run, how to compare them, when to give one up, and
// how they share the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

enum class SweepMethod { kGrid, kRandom, kList };
enum class MetricGoal { kMinimize, kMaximize };
enum class StoppingRule { kNone, kMedian, kThreshold };
enum class OnFailure { kContinue, kStop };
enum class Distribution { kUniform, kLogUniform, kIntUniform, kIntLogUniform };

// More runs than this are taken for a mistake; more combinations are not even counted through.
inline constexpr int64_t kMaxSweepRuns = 10'000;
inline constexpr int64_t kMaxSweepCombinations = 100'000;

// One value of one key of the run.
struct SweepSetting {
  std::string path;   // dotted, "optimizer.learning_rate"
  std::string value;  // in the form that resolved.yaml has it
  std::string place;  // "FILE:LINE:COLUMN" of the value
};

// Values that a run takes together.
using SweepAlternative = std::vector<SweepSetting>;

// A key whose value is drawn.
struct SweepDraw {
  std::string path;
  Distribution distribution = Distribution::kUniform;
  double min = 0;
  double max = 0;
  std::string place;
};

// One thing that varies: either alternatives to choose among, or a draw.
struct SweepAxis {
  std::vector<SweepAlternative> alternatives;
  std::optional<SweepDraw> draw;  // when there are none

  std::vector<std::string> Paths() const;  // of the keys that vary with it
};

struct SweepMetric {
  std::string name = "eval/loss";
  MetricGoal goal = MetricGoal::kMinimize;
  std::string place;
};

struct SweepEarlyTerminate {
  StoppingRule type = StoppingRule::kNone;
  double threshold = 0;   // type threshold only
  int64_t min_steps = 1;  // no run is given up before
  int64_t every = 1;      // it is decided at the steps this divides
};

struct SweepSchedule {
  std::optional<int64_t> gpus_per_run;  // nullopt: as many as the run has ranks
  std::optional<int64_t> max_parallel;  // nullopt: what the machine has room for
  OnFailure on_failure = OnFailure::kContinue;
  int64_t retries = 0;  // of a run that failed, in one call
  std::string gpus_per_run_place;
};

struct SweepConfig {
  std::string file_name;  // as given, for messages
  std::string base;       // the run's file
  std::string base_place;
  std::string output_dir;  // never empty
  SweepMethod method = SweepMethod::kGrid;
  std::vector<SweepAxis> axes;               // in the order of the file; list: one
  std::vector<SweepAlternative> exclusions;  // a run that has all settings of one is left out
  std::vector<SweepSetting> seeds;           // of the key `seed`; empty: the base's
  int64_t seed = 42;                         // of the draws
  std::optional<int64_t> run_cap;
  SweepMetric metric;
  SweepEarlyTerminate early_terminate;
  SweepSchedule schedule;

  // The keys that may differ between the runs, in the order of the file.
  std::vector<std::string> Keys() const;
};

// Reads and checks a sweep's file. Whatever is wrong throws ConfigError with one line
// "FILE:LINE:COLUMN: error: what is wrong; what to do".
SweepConfig ParseSweep(std::string_view text, const std::string& file_name);

}  // namespace hearth
