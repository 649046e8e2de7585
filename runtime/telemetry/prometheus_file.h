// The latest values as a file for the textfile collector of Prometheus' node exporter.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "runtime/telemetry/step_record.h"

namespace hearth {

// "hearth_train_loss" of "train/loss".
std::string PrometheusName(const std::string& name);

class PrometheusFile {
 public:
  // `run` is the label that tells runs apart. Nothing is written yet.
  PrometheusFile(std::filesystem::path path, const std::string& run);

  // Takes the record's numbers over those of the same name and replaces the file atomically.
  // IoError when that fails.
  void Update(const StepRecord& record, double wall_time_s);

 private:
  std::string Text() const;

  const std::filesystem::path path_;
  const std::string label_;                    // {run="..."}
  std::map<std::string, std::string> values_;  // by name; as the format writes numbers
};

}  // namespace hearth
