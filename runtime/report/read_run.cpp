#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "kernels/core/error.h"
#include "runtime/config/scalar_text.h"
#include "runtime/report/run_files.h"
#include "runtime/telemetry/json_lines_log.h"

namespace hearth {

namespace {

constexpr int64_t kMostFileBytes = 4 << 20;           // of a configuration or plan
constexpr int64_t kMostPoolBytes = int64_t{1} << 44;  // counted; no sum of a file's pools overflows
constexpr size_t kMostSeries = 400;
constexpr size_t kMostEvents = 200;
constexpr size_t kMostTextValues = 64;  // names of text values whose changes are watched

// What was met in log.jsonl besides numbers.
class LogReader {
 public:
  LogReader(RunData* run, const ReadOptions& options) : run_(run), options_(options) {}

  void Read() {
    const std::filesystem::path file = run_->folder / "log.jsonl";
    if (!options_.files.Exists(file)) {
      run_->remarks.push_back(
          "log.jsonl is missing: no curves (the run has not logged yet, or logging.report_to has "
          "no "
          "jsonl)");
      return;
    }
    RecordLines lines;
    options_.files.ReadPieces(file, [&](std::string_view piece) {
      lines.Take(piece, [&](std::string_view, const StepRecord& record) { TakeRecord(record); });
    });
    if (lines.is_torn()) {
      run_->remarks.push_back(
          "log.jsonl ends within a line, which is left out (it is being written, or its writer was "
          "killed)");
    }
    Remark(lines.other_lines(), "lines of log.jsonl are no records and were left out");
    Remark(std::ssize(names_left_out_), "further metrics of log.jsonl are not shown");
    for (const auto& [name, series] : run_->series) out_of_order_ += series.out_of_order();
    Remark(out_of_order_, "values of log.jsonl go back in steps and were left out");
    Remark(events_left_out_, "further events are not shown");
  }

 private:
  void Remark(int64_t count, std::string_view what) {
    if (count > 0) run_->remarks.push_back(fmt::format("{} {}", count, what));
  }

  void TakeRecord(const StepRecord& record) {
    run_->last_step = std::max(run_->last_step, record.step);
    for (const auto& [name, value] : record.values) {
      if (const auto* text = std::get_if<std::string>(&value)) {
        TakeText(record.step, name, *text);
      } else if (const std::optional<double> number = record.Number(name)) {
        TakeNumber(record.step, name, *number);
      }
    }
  }

  void TakeNumber(int64_t step, const std::string& name, double number) {
    auto found = run_->series.find(name);
    if (found == run_->series.end()) {
      if (run_->series.size() >= kMostSeries) {
        if (names_left_out_.size() < kMostSeries) names_left_out_[name] = "";
        return;
      }
      found = run_->series.emplace(name, Series(options_.most_buckets)).first;
    }
    found->second.Add(step, number);
  }

  // A text is told when it changes.
  void TakeText(int64_t step, const std::string& name, const std::string& text) {
    const auto found = texts_.find(name);
    if (found == texts_.end() && texts_.size() >= kMostTextValues) return;
    if (found != texts_.end() && found->second == text) return;
    const bool is_first = found == texts_.end();
    texts_[name] = text;
    if (is_first && (text.empty() || text == "none")) return;
    if (run_->events.size() >= kMostEvents) {
      ++events_left_out_;
      return;
    }
    run_->events.push_back(
        {.step = step, .text = fmt::format("{}: {}", name, text.empty() ? "none" : text)});
  }

  RunData* run_;
  const ReadOptions& options_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, std::string> names_left_out_;
  int64_t out_of_order_ = 0;
  int64_t events_left_out_ = 0;
};

// A sweep's run is started on a run.yaml that has every key; the origins in its comments are the
// true ones.
void TakeTrueOrigins(const ReportFiles& files, const std::filesystem::path& folder,
                     std::vector<ConfigLeaf>* leaves) {
  const std::optional<std::string> text = files.ReadTail(folder / "run.yaml", kMostFileBytes);
  if (!text) return;
  std::map<std::string, ConfigLeaf> first;
  for (ConfigLeaf& leaf : ReadResolvedText(*text).leaves) first[leaf.path] = leaf;
  for (ConfigLeaf& leaf : *leaves) {
    const auto found = first.find(leaf.path);
    const bool is_from_it = leaf.origin.find("/run.yaml:") != std::string::npos;
    if (found == first.end() || !is_from_it || found->second.value != leaf.value) continue;
    if (!found->second.origin.empty()) leaf.origin = found->second.origin;
  }
}

void ReadConfiguration(const ReportFiles& files, RunData* run) {
  std::optional<std::string> text = files.ReadTail(run->folder / "resolved.yaml", kMostFileBytes);
  if (!text) {
    text = files.ReadTail(run->folder / "run.yaml", kMostFileBytes);
    run->remarks.push_back(text ? "resolved.yaml is missing: the configuration is that of run.yaml"
                                : "resolved.yaml is missing: the configuration is not known");
  }
  run->label = run->name;
  if (!text) return;
  ResolvedText resolved = ReadResolvedText(*text);
  run->machine = resolved.machine;
  run->config = std::move(resolved.leaves);
  TakeTrueOrigins(files, run->folder, &run->config);
  const std::string& name = run->ConfigValue("run_name");
  if (!name.empty() && name != "null") run->name = name;
  run->label = run->name;
}

std::optional<int64_t> PositiveInteger(const std::string& text) {
  const std::optional<int64_t> value = ParseInteger(text).value;
  return value && *value > 0 ? value : std::nullopt;
}

int64_t BytesOf(const std::vector<PlannedPool>& pools, std::string_view tier) {
  int64_t bytes = 0;
  for (const PlannedPool& pool : pools) {
    if (pool.tier == tier) bytes += std::min(pool.bytes, kMostPoolBytes);
  }
  return bytes;
}

// Steps in FP8 and in bf16 have a plan each; what was measured is the most of both.
void TakeLargerTiers(const ReportFiles& files, RunData* run) {
  const std::optional<std::string> text =
      files.ReadTail(run->folder / "plan-bf16.yaml", kMostFileBytes);
  if (!text) return;
  const PlanText finish = ReadPlanText(*text);
  for (const char* tier : {"device", "host", "ssd"}) {
    if (BytesOf(finish.pools, tier) <= BytesOf(run->pools, tier)) continue;
    const auto is_here = [&](const PlannedPool& pool) { return pool.tier == tier; };
    std::erase_if(run->pools, is_here);
    std::copy_if(finish.pools.begin(), finish.pools.end(), std::back_inserter(run->pools), is_here);
  }
}

void ReadPlanFile(const ReportFiles& files, RunData* run) {
  const std::optional<std::string> text = files.ReadTail(run->folder / "plan.yaml", kMostFileBytes);
  if (!text) {
    run->remarks.push_back("plan.yaml is missing: no prediction of memory");
    return;
  }
  PlanText plan = ReadPlanText(*text);
  if (!plan.is_plan) {
    run->remarks.push_back("plan.yaml cannot be understood: no prediction of memory");
    return;
  }
  run->plan = std::move(plan.facts);
  run->pools = std::move(plan.pools);
  TakeLargerTiers(files, run);
  std::optional<int64_t> sequences;
  std::optional<int64_t> length;
  for (const ConfigLeaf& fact : run->plan) {
    if (fact.path == "global_batch_size") sequences = PositiveInteger(fact.value);
    if (fact.path == "sequence_len") length = PositiveInteger(fact.value);
  }
  constexpr int64_t kMost = int64_t{1} << 30;  // each: the product is one
  if (sequences && length && *sequences <= kMost && *length <= kMost) {
    run->step_tokens = *sequences * *length;
  }
}

void FindTotalSteps(RunData* run) {
  run->total_steps = PositiveInteger(run->ConfigValue("training.max_steps"));
  const std::optional<int64_t> tokens = PositiveInteger(run->ConfigValue("training.max_tokens"));
  if (!run->total_steps && tokens && run->step_tokens) {
    run->total_steps = (*tokens - 1) / *run->step_tokens + 1;
  }
}

// What the numbers themselves report.
void AddProblems(RunData* run) {
  for (const auto& [name, series] : run->series) {
    if (series.not_finite() == 0) continue;
    run->events.push_back(
        {.step = series.first_not_finite_step(),
         .text = fmt::format("{} is not finite{}", name,
                             series.not_finite() > 1
                                 ? fmt::format(", {} times from here on", series.not_finite())
                                 : ""),
         .is_problem = true});
  }
}

void AddStarts(const ReportFiles& files, RunData* run) {
  for (const LogStart& start : ReadLogStarts(files, run->folder)) {
    const std::string when = FormatUtc(start.wall_time_s);
    if (start.first_step) {
      run->events.push_back(
          {.step = start.first_step, .text = fmt::format("went on from a checkpoint, {}", when)});
    } else {
      run->events.push_back({.step = 0, .text = fmt::format("started, {}", when)});
    }
  }
}

void AddSaved(const ReportFiles& files, RunData* run) {
  const std::vector<int64_t> steps = SavedSteps(files, run->folder);
  if (steps.empty()) return;
  run->events.push_back({.step = std::nullopt,
                         .text = fmt::format("checkpoints kept: step {}", fmt::join(steps, ", "))});
}

void AddSaid(const ReportFiles& files, RunData* run) {
  for (std::string& words : ReadSaidWords(files, run->folder)) {
    const bool is_progress = words.starts_with("going on from");
    run->events.push_back(
        {.step = std::nullopt, .text = std::move(words), .is_problem = !is_progress});
  }
}

void AddMessage(RunData* run) {
  if (run->message.empty()) return;
  run->events.push_back({.step = std::nullopt,
                         .text = fmt::format("{}: {}", StateText(run->state), run->message),
                         .is_problem = run->state != RunState::kStoppedEarly});
}

bool IsBroken(const RunData& run) {
  for (const char* name : {"train/loss", "train/grad_norm"}) {
    const Series* series = run.Find(name);
    if (series != nullptr && series->ends_not_finite()) return true;
  }
  return false;
}

// How the run ended, from the outcome that a sweep wrote, else from what lies in the folder.
void FindState(RunData* run, const ReadOptions& options) {
  if (options.in_use != nullptr && options.in_use(run->folder)) {
    run->state = RunState::kRunning;
    return;
  }
  const std::optional<std::string> outcome =
      options.files.ReadTail(run->folder / "outcome.json", kMostFileBytes);
  const std::optional<StepRecord> record =
      outcome ? ParseJsonLine(outcome->substr(0, outcome->find('\n'))) : std::nullopt;
  if (record) {
    for (const auto& [name, value] : record->values) {
      const auto* text = std::get_if<std::string>(&value);
      if (text == nullptr) continue;
      if (name == "message") run->message = *text;
      if (name != "state") continue;
      constexpr std::pair<std::string_view, RunState> kStates[] = {
          {"finished", RunState::kFinished},
          {"stopped_early", RunState::kStoppedEarly},
          {"diverged", RunState::kDiverged},
          {"failed", RunState::kFailed}};
      for (const auto& [word, state] : kStates) {
        if (*text == word) run->state = state;
      }
    }
    if (run->state != RunState::kEmpty) return;
  }
  if (outcome) run->remarks.push_back("outcome.json does not say how the run ended");
  const bool is_complete = (run->total_steps && run->last_step >= *run->total_steps) ||
                           options.files.Exists(run->folder / "hf");
  if (run->series.empty()) {
    run->state = RunState::kEmpty;
  } else if (IsBroken(*run)) {
    run->state = RunState::kDiverged;
  } else {
    const RunState incomplete = run->total_steps ? RunState::kEnded : RunState::kOver;
    run->state = is_complete ? RunState::kFinished : incomplete;
  }
}

bool IsEarlier(const RunEvent& a, const RunEvent& b) {
  // Those of the run as a whole come last.
  if (a.step.has_value() != b.step.has_value()) return a.step.has_value();
  return a.step && *a.step < *b.step;
}

}  // namespace

std::string StateText(RunState state) {
  switch (state) {
    case RunState::kEmpty:
      return "nothing logged yet";
    case RunState::kRunning:
      return "running";
    case RunState::kEnded:
      return "ended before its last step";
    case RunState::kOver:
      return "ended";
    case RunState::kFinished:
      return "finished";
    case RunState::kStoppedEarly:
      return "stopped early";
    case RunState::kDiverged:
      return "diverged";
    case RunState::kFailed:
      return "failed";
  }
  return "";
}

const Series* RunData::Find(const std::string& metric) const {
  const auto found = series.find(metric);
  return found == series.end() ? nullptr : &found->second;
}

const std::string& RunData::ConfigValue(std::string_view path) const {
  static const std::string unknown;
  const auto found = std::find_if(config.begin(), config.end(),
                                  [&](const ConfigLeaf& leaf) { return leaf.path == path; });
  return found == config.end() ? unknown : found->value;
}

bool IsRunFolder(const std::filesystem::path& folder, const ReportFiles& files) {
  for (const char* name : {"resolved.yaml", "log.jsonl", "run.yaml", "plan.yaml"}) {
    if (files.Exists(folder / name)) return true;
  }
  return false;
}

RunData ReadRun(const std::filesystem::path& folder, const ReadOptions& options) {
  const ReportFiles& files = options.files;
  if (!IsRunFolder(folder, files)) {
    throw ConfigError(fmt::format(
        "{}: error: {}; give the folder of a run (its output_dir, runs/<name> by default) or of a "
        "sweep",
        folder.string(),
        files.Exists(folder) ? "neither log.jsonl nor resolved.yaml is in it"
                             : "there is no such folder"));
  }
  const std::filesystem::path plain = folder.lexically_normal();
  RunData run{.folder = folder,
              .name = (plain.has_filename() ? plain : plain.parent_path()).filename().string()};
  ReadConfiguration(files, &run);
  ReadPlanFile(files, &run);
  if (options.with_log) LogReader(&run, options).Read();
  FindTotalSteps(&run);
  FindState(&run, options);
  AddStarts(files, &run);
  AddProblems(&run);
  AddMessage(&run);
  AddSaved(files, &run);
  AddSaid(files, &run);
  std::stable_sort(run.events.begin(), run.events.end(), IsEarlier);
  return run;
}

std::vector<std::string> DifferingKeys(const std::vector<const RunData*>& runs) {
  struct Seen {
    const std::string* value = nullptr;
    int64_t runs = 0;
    bool differs = false;
  };
  std::map<std::string_view, Seen> seen;
  std::vector<std::string> order;
  int64_t known = 0;  // runs whose configuration is
  for (const RunData* run : runs) {
    known += run->config.empty() ? 0 : 1;
    for (const ConfigLeaf& leaf : run->config) {
      Seen& key = seen[leaf.path];
      if (key.value == nullptr) {
        key.value = &leaf.value;
        order.push_back(leaf.path);
      }
      key.differs |= *key.value != leaf.value;
      ++key.runs;
    }
  }
  std::vector<std::string> keys;
  for (const std::string& path : order) {
    if (path == "run_name" || path == "output_dir") continue;
    if (seen[path].differs || seen[path].runs < known) keys.push_back(path);
  }
  return keys;
}

}  // namespace hearth
