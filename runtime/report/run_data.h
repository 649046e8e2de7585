// What the folder of a run, or of a sweep, says about it, as the report shows it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/report/series.h"

namespace hearth {

// A line of resolved.yaml.
struct ConfigLeaf {
  std::string path;    // dotted
  std::string value;   // as the file has it
  std::string origin;  // "default", "run.yaml:12", "command line", "planner"; "" where unsaid
};

// A line of the plan's memory table.
struct PlannedPool {
  std::string tier;
  std::string name;
  int64_t bytes = 0;
};

struct RunEvent {
  std::optional<int64_t> step;
  std::string text;
  bool is_problem = false;
};

// kOver: it does not run, and how many steps it should have made is not known.
enum class RunState {
  kEmpty,
  kRunning,
  kEnded,
  kOver,
  kFinished,
  kStoppedEarly,
  kDiverged,
  kFailed,
};
inline constexpr size_t kRunStates = 8;

// "running", "ended before its last step", ...
std::string StateText(RunState state);

struct RunData {
  std::filesystem::path folder;
  std::string name;
  std::string label;  // beside its curves: the name, or what tells it from the others of a sweep
  RunState state = RunState::kEmpty;
  std::string message;                   // why it failed, where somebody says so
  std::optional<int64_t> total_steps;    // where it is known
  int64_t last_step = 0;                 // of any record
  std::string machine;                   // "2 x NVIDIA H200, 139.8 GiB"; "" where unknown
  std::vector<ConfigLeaf> config;        // in the order of the file
  std::vector<ConfigLeaf> plan;          // what plan.yaml says besides memory
  std::vector<PlannedPool> pools;        // planned memory of rank 0
  std::optional<int64_t> step_tokens;    // inputs of a step over all ranks
  std::map<std::string, Series> series;  // by metric; numbers only
  std::vector<RunEvent> events;          // those with a step in their order
  std::vector<std::string> remarks;      // files that are missing or hold more than is shown

  const Series* Find(const std::string& metric) const;
  // The value of a key of the configuration; "" where it is not known.
  const std::string& ConfigValue(std::string_view path) const;
};

// Whether somebody writes into the folder now.
using InUse = bool (*)(const std::filesystem::path& folder);

// The files that a report is made of, by path; a test may have them elsewhere than on a disk.
class ReportFiles {
 public:
  virtual ~ReportFiles() = default;
  virtual bool Exists(const std::filesystem::path& path) const = 0;
  // A regular file, at most `most_bytes` of its beginning or its end; nullopt where there is none.
  virtual std::optional<std::string> ReadHead(const std::filesystem::path& file,
                                              int64_t most_bytes) const = 0;
  virtual std::optional<std::string> ReadTail(const std::filesystem::path& file,
                                              int64_t most_bytes) const = 0;
  // The whole file piece by piece, nothing where there is none. IoError when reading fails.
  virtual void ReadPieces(const std::filesystem::path& file,
                          const std::function<void(std::string_view)>& use) const = 0;
  // Names in a folder that begin so, sorted.
  virtual std::vector<std::string> NamesIn(const std::filesystem::path& folder,
                                           std::string_view prefix) const = 0;
};

const ReportFiles& DiskFiles();

struct ReadOptions {
  InUse in_use = nullptr;  // null: nobody does
  int64_t most_buckets = 800;
  bool with_log = true;
  const ReportFiles& files = DiskFiles();
};

// Whether a folder looks like a run's, or like a sweep's.
bool IsRunFolder(const std::filesystem::path& folder, const ReportFiles& files = DiskFiles());
bool IsSweepFolder(const std::filesystem::path& folder);

// Files that are missing, torn or damaged become remarks. ConfigError where the folder is no run's;
// IoError where the disk fails.
RunData ReadRun(const std::filesystem::path& folder, const ReadOptions& options);

struct SweepRunData {
  RunData run;
  std::optional<double> value;  // of the metric, the last, finite
  int64_t step = 0;             // the last one made
};

struct SweepData {
  std::filesystem::path folder;
  std::string name;
  std::string metric = "eval/loss";
  bool minimize = true;
  std::vector<std::string> keys;   // that differ between the runs
  bool has_value_labels = false;   // the runs' labels are the values of `keys`
  std::vector<SweepRunData> runs;  // best first, those without a value behind
  std::vector<std::string> remarks;
};

// As ReadRun. Only the best `most_curves` runs keep their logs. `sweep_text`: the sweep's file, for
// a folder without a copy of it; "" where that is not known either.
SweepData ReadSweep(const std::filesystem::path& folder, const std::string& sweep_text,
                    const ReadOptions& options, int64_t most_curves);

// Paths of the keys whose values differ, but for the run's name and folder. `runs` not empty.
std::vector<std::string> DifferingKeys(const std::vector<const RunData*>& runs);

}  // namespace hearth
