#include "launcher/sweep_run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "kernels/core/error.h"
#include "runtime/checkpoint/folders.h"

namespace hearth {

namespace {

constexpr const char* kRunFile = "run.yaml";
constexpr const char* kOutputFile = "output.txt";
constexpr size_t kLongestWords = 400;
constexpr int64_t kOutputTail = 8192;

bool IsId(const std::string& name) {
  return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::optional<double> LastValue(const MetricLog& log) {
  if (log.curve().empty()) return std::nullopt;
  return log.curve().back().value;
}

KnownRun LookAtRun(const PlannedRun& run, const SweepConfig& sweep) {
  KnownRun known{.outcome = ReadOutcome(run.folder),
                 .log = MetricLog(run.folder / "log.jsonl", sweep.metric.name)};
  const bool other_metric = known.outcome && known.outcome->metric != sweep.metric.name;
  if (!known.outcome || other_metric || sweep.early_terminate.type == StoppingRule::kMedian) {
    known.log.Read();
  }
  if (other_metric) {
    known.outcome->metric = sweep.metric.name;
    known.outcome->value = LastValue(known.log);
  }
  return known;
}

bool HasLastCheckpoint(const PlannedRun& run) {
  const std::vector<int64_t> steps = CheckpointSteps(run.folder);
  return !steps.empty() && steps.back() == run.total_steps;
}

int64_t PrepareFolder(const PlannedRun& run) {
  std::error_code error;
  std::filesystem::create_directories(run.folder, error);
  if (error) {
    throw IoError(
        fmt::format("{}: error: cannot be made: {}", run.folder.string(), error.message()));
  }
  ReplaceFile(run.folder / kRunFile, run.resolved.ToYaml());
  const auto size = std::filesystem::file_size(run.folder / kOutputFile, error);
  return error ? 0 : static_cast<int64_t>(size);
}

std::string LastWords(const PlannedRun& run, int64_t begin) {
  std::ifstream in(run.folder / kOutputFile, std::ios::binary);
  in.seekg(0, std::ios::end);
  in.seekg(std::max(begin, static_cast<int64_t>(in.tellg()) - kOutputTail));
  std::string text(std::istreambuf_iterator<char>(in), {});
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text.erase(0, text.rfind('\n') + 1);
  constexpr std::string_view kName = "hearth: ";
  if (text.starts_with(kName)) text.erase(0, kName.size());
  for (char& c : text) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text.size() > kLongestWords ? text.substr(0, kLongestWords) + "..." : text;
}

ProcessOptions TrainProcess(const PlannedRun& run, const Seat& seat,
                            std::vector<std::string> environment) {
  ProcessOptions process{.arguments = {OwnProgram(), "train", (run.folder / kRunFile).string(),
                                       "-n", fmt::format("{}", run.needs.ranks)},
                         .environment = std::move(environment),
                         .output = (run.folder / kOutputFile).string()};
  // The base may say that a run starts anew; this one has begun.
  if (run.resolved.config.checkpoint.resume.mode != ResumeMode::kAuto &&
      !CheckpointSteps(run.folder).empty()) {
    process.arguments.insert(process.arguments.end(), {"--set", "checkpoint.resume=auto"});
  }
  if (!seat.gpus.empty()) {
    SetVariable(&process.environment, "CUDA_VISIBLE_DEVICES",
                fmt::format("{}", fmt::join(seat.gpus, ",")));
  }
  return process;
}

std::vector<std::string> FindRemovedRuns(const SweepPlan& plan) {
  std::vector<std::string> removed;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(plan.folder, error)) {
    const std::string name = entry.path().filename().string();
    const auto is_it = [&](const PlannedRun& run) { return run.id == name; };
    if (!IsId(name) || std::any_of(plan.runs.begin(), plan.runs.end(), is_it)) continue;
    removed.push_back(name);
  }
  std::sort(removed.begin(), removed.end());
  return removed;
}

}  // namespace hearth
