#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

#include "kernels/core/error.h"
#include "runtime/config/sweep_config.h"
#include "runtime/report/run_files.h"
#include "runtime/telemetry/json_lines_log.h"

namespace hearth {

namespace {

constexpr int64_t kMostFileBytes = 64 << 20;  // results of ten thousand runs

// As the folders of a sweep's runs are called.
bool IsRunId(const std::string& name) {
  return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<std::filesystem::path> RunFolders(const ReportFiles& files,
                                              const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> folders;
  for (const std::string& name : files.NamesIn(folder, "")) {
    if (IsRunId(name) && IsRunFolder(folder / name, files)) folders.push_back(folder / name);
  }
  return folders;
}

std::string TextOf(const StepRecord& record, std::string_view name) {
  for (const auto& [key, value] : record.values) {
    const auto* text = std::get_if<std::string>(&value);
    if (key == name && text != nullptr) return *text;
  }
  return "";
}

std::optional<double> Finite(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<StepRecord> ReadOutcomeRecord(const ReportFiles& files,
                                            const std::filesystem::path& run_folder) {
  const std::optional<std::string> text =
      files.ReadTail(run_folder / "outcome.json", kMostFileBytes);
  return text ? ParseJsonLine(text->substr(0, text->find('\n'))) : std::nullopt;
}

// A run, read as far as its place among the others asks for.
struct Candidate {
  std::filesystem::path folder;
  std::optional<StepRecord> outcome;
  std::optional<RunData> run;
  std::optional<double> value;
  int64_t step = 0;
};

void ReadSweepFile(const ReportFiles& files, const std::string& given, SweepData* sweep) {
  const std::optional<std::string> copy =
      files.ReadTail(sweep->folder / "sweep.yaml", kMostFileBytes);
  if (!copy && given.empty()) {
    sweep->remarks.push_back(
        "sweep.yaml is missing: lower values of the metric are taken for better");
    return;
  }
  try {
    const SweepConfig config = ParseSweep(copy.value_or(given), "sweep.yaml");
    sweep->metric = config.metric.name;
    sweep->minimize = config.metric.goal == MetricGoal::kMinimize;
  } catch (const ConfigError& error) {
    sweep->remarks.push_back(
        fmt::format("{}; lower values of the metric are taken for better", error.what()));
  }
}

// Runs that have ended and are not in the results: an edited sweep has them no longer.
std::vector<std::filesystem::path> LeaveOutRemoved(const ReportFiles& files,
                                                   std::vector<std::filesystem::path> folders,
                                                   SweepData* sweep) {
  const std::optional<std::string> results =
      files.ReadTail(sweep->folder / "results.jsonl", kMostFileBytes);
  if (!results) return folders;
  std::set<std::string> listed;
  for (size_t at = 0; at < results->size();) {
    const size_t end = std::min(results->find('\n', at), results->size());
    if (const auto record = ParseJsonLine(results->substr(at, end - at))) {
      listed.insert(TextOf(*record, "run"));
    }
    at = end + 1;
  }
  const auto removed = [&](const std::filesystem::path& folder) {
    return listed.count(folder.filename().string()) == 0 && files.Exists(folder / "outcome.json");
  };
  const int64_t count = std::count_if(folders.begin(), folders.end(), removed);
  // All of them: the results are those of a sweep that has just begun again.
  if (count == 0 || count == std::ssize(folders)) return folders;
  std::erase_if(folders, removed);
  sweep->remarks.push_back(
      fmt::format("{} runs in the folder are no longer in the sweep and were left out", count));
  return folders;
}

Candidate LookAt(const std::filesystem::path& folder, const SweepData& sweep,
                 const ReadOptions& options) {
  Candidate candidate{.folder = folder, .outcome = ReadOutcomeRecord(options.files, folder)};
  if (candidate.outcome && TextOf(*candidate.outcome, "metric") == sweep.metric) {
    candidate.value = Finite(candidate.outcome->Number("value"));
    candidate.step = candidate.outcome->step;
    return candidate;
  }
  candidate.run = ReadRun(folder, options);
  candidate.step = candidate.run->last_step;
  const Series* series = candidate.run->Find(sweep.metric);
  if (series != nullptr && !series->ends_not_finite()) candidate.value = series->last();
  return candidate;
}

// Short values say more than an id.
void LabelByValues(SweepData* sweep) {
  constexpr size_t kMostKeys = 4;
  constexpr size_t kMostBytes = 40;
  std::vector<std::string> labels;
  std::set<std::string> different;
  for (const SweepRunData& each : sweep->runs) {
    std::vector<std::string> values;
    for (const std::string& key : sweep->keys) values.push_back(each.run.ConfigValue(key));
    labels.push_back(fmt::format("{}", fmt::join(values, ", ")));
    different.insert(labels.back());
    if (labels.back().size() > kMostBytes) return;
  }
  if (sweep->keys.size() > kMostKeys || different.size() < labels.size()) return;
  for (size_t i = 0; i < labels.size(); ++i) sweep->runs[i].run.label = labels[i];
  sweep->has_value_labels = true;
}

}  // namespace

bool IsSweepFolder(const std::filesystem::path& folder) {
  return !IsRunFolder(folder) && !RunFolders(DiskFiles(), folder).empty();
}

SweepData ReadSweep(const std::filesystem::path& folder, const std::string& sweep_text,
                    const ReadOptions& options, int64_t most_curves) {
  const std::filesystem::path plain = folder.lexically_normal();
  SweepData sweep{.folder = folder,
                  .name = (plain.has_filename() ? plain : plain.parent_path()).filename().string()};
  ReadSweepFile(options.files, sweep_text, &sweep);
  std::vector<Candidate> candidates;
  for (const std::filesystem::path& run :
       LeaveOutRemoved(options.files, RunFolders(options.files, folder), &sweep)) {
    candidates.push_back(LookAt(run, sweep, options));
  }
  if (candidates.empty()) {
    throw ConfigError(
        fmt::format("{}: error: no run of the sweep has begun; start it with hearth "
                    "sweep, or give the folder of another",
                    folder.string()));
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](const Candidate& a, const Candidate& b) {
                     if (!a.value || !b.value) return a.value.has_value() && !b.value;
                     return sweep.minimize ? *a.value < *b.value : *a.value > *b.value;
                   });
  ReadOptions without_log = options;
  without_log.with_log = false;
  for (Candidate& candidate : candidates) {
    const bool has_curves = std::ssize(sweep.runs) < most_curves;
    if (!candidate.run)
      candidate.run = ReadRun(candidate.folder, has_curves ? options : without_log);
    if (!has_curves) candidate.run->series.clear();
    candidate.run->name = candidate.folder.filename().string();
    candidate.run->label = candidate.run->name;
    sweep.runs.push_back(
        {.run = std::move(*candidate.run), .value = candidate.value, .step = candidate.step});
  }
  std::vector<const RunData*> runs;
  for (const SweepRunData& each : sweep.runs) runs.push_back(&each.run);
  sweep.keys = DifferingKeys(runs);
  // How a run was gone on with is no part of what was compared.
  std::erase(sweep.keys, "checkpoint.resume");
  LabelByValues(&sweep);
  return sweep;
}

}  // namespace hearth
