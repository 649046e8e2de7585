// What a sweep reads in a run's log.jsonl while it grows.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/telemetry/json_lines_log.h"

namespace hearth {

struct MetricPoint {
  int64_t step = 0;
  double value = 0;  // may be anything, NaN included
};

// One metric over the steps, rising.
using MetricCurve = std::vector<MetricPoint>;

// The last point up to `step`; nullopt when there is none.
std::optional<double> ValueAt(const MetricCurve& curve, int64_t step);

// Whether a log up to `last_step` has all that the step has to say of the metric: its evaluation
// comes after its training record.
bool HasPassed(const MetricCurve& curve, int64_t last_step, int64_t step);

class MetricLog {
 public:
  MetricLog(std::filesystem::path log, std::string metric)
      : path_(std::move(log)), metric_(std::move(metric)) {}

  // Takes in the whole lines that have come since the last call. A file that was replaced, as on
  // resume, is read anew; one that is not there has no lines.
  void Read();
  // Takes in the bytes that follow those of earlier calls; Read does so with the file's.
  void Take(std::string_view piece);

  const MetricCurve& curve() const { return curve_; }
  int64_t last_step() const { return last_step_; }  // 0 before the first
  // The last training record's loss or gradient norm is not finite.
  bool is_broken() const { return is_broken_; }

 private:
  void TakeRecord(const StepRecord& record);

  std::filesystem::path path_;
  std::string metric_;
  ino_t file_ = 0;      // which file was read
  int64_t offset_ = 0;  // behind what was taken, in Read behind its last whole line
  RecordLines lines_;
  MetricCurve curve_;
  int64_t last_step_ = 0;
  bool is_broken_ = false;
};

}  // namespace hearth
