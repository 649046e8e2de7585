// The files of a run's folder, each on its own. None of these throws for what a file says: what
// cannot be understood is left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/report/run_data.h"

namespace hearth {

struct ResolvedText {
  std::string machine;
  std::vector<ConfigLeaf> leaves;
};

// resolved.yaml, or the run.yaml of a sweep's run: one key a line, nested by two blanks.
ResolvedText ReadResolvedText(const std::string& text);

struct PlanText {
  bool is_plan = false;
  std::vector<ConfigLeaf> facts;
  std::vector<PlannedPool> pools;
};

PlanText ReadPlanText(const std::string& text);

// A process that began to write the TensorBoard log.
struct LogStart {
  double wall_time_s = 0;             // since 1970, UTC
  std::optional<int64_t> first_step;  // where it went on from a checkpoint
};

// From the first records of the event files in tb/, in the order of time.
std::vector<LogStart> ReadLogStarts(const ReportFiles& files,
                                    const std::filesystem::path& run_folder);

// "2026-03-01 12:00:05 UTC"
std::string FormatUtc(double wall_time_s);

// Steps of the checkpoints in the folder, rising.
std::vector<int64_t> SavedSteps(const ReportFiles& files, const std::filesystem::path& run_folder);

// What a run warned of or said about starting again: of messages.txt with its times, or what a
// sweep kept in output.txt. At most the last 40.
std::vector<std::string> ReadSaidWords(const ReportFiles& files,
                                       const std::filesystem::path& run_folder);

}  // namespace hearth
