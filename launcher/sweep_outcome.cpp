#include "launcher/sweep_outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <system_error>
#include <utility>
#include <variant>

#include "kernels/core/error.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/telemetry/json_lines_log.h"

namespace hearth {

namespace {

constexpr const char* kOutcomeFile = "outcome.json";
constexpr double kMaxExitCode = 1000;  // of a process: up to 255, or minus a signal

constexpr std::array<std::pair<RunEndState, std::string_view>, 4> kNames = {
    {{RunEndState::kFinished, "finished"},
     {RunEndState::kStoppedEarly, "stopped_early"},
     {RunEndState::kDiverged, "diverged"},
     {RunEndState::kFailed, "failed"}}};

std::string Text(const StepRecord& record, std::string_view name) {
  for (const auto& [key, value] : record.values) {
    if (key == name && std::holds_alternative<std::string>(value)) {
      return std::get<std::string>(value);
    }
  }
  return "";
}

}  // namespace

std::string_view Name(RunEndState state) {
  for (const auto& [each, name] : kNames) {
    if (each == state) return name;
  }
  return "";
}

std::string StateWords(RunEndState state) {
  std::string words(Name(state));
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

void ReplaceFile(const std::filesystem::path& file, const std::string& text) {
  const std::filesystem::path next = file.string() + ".next";
  std::error_code error;
  std::filesystem::remove(next, error);  // of a killed writer
  WriteDurably(next, text);
  std::filesystem::rename(next, file, error);
  if (error) {
    throw IoError(fmt::format("{}: error: cannot be written: {}", file.string(), error.message()));
  }
}

std::string OutcomeText(const RunOutcome& outcome) {
  StepRecord record{.step = outcome.step, .values = {}};
  record.Set("state", std::string(Name(outcome.state)));
  record.Set("exit_code", int64_t{outcome.exit_code});
  record.Set("message", outcome.message);
  record.Set("metric", outcome.metric);
  if (outcome.value) record.Set("value", *outcome.value);
  return ToJson(record) + "\n";
}

RunOutcome ParseOutcome(std::string_view text, const std::string& file) {
  const std::optional<StepRecord> record = ParseJsonLine(text.substr(0, text.find('\n')));
  for (const auto& [state, name] : kNames) {
    if (!record || Text(*record, "state") != name) continue;
    const double exit_code = record->Number("exit_code").value_or(0);
    if (!(std::abs(exit_code) <= kMaxExitCode)) break;
    return {.state = state,
            .step = record->step,
            .exit_code = static_cast<int>(exit_code),
            .message = Text(*record, "message"),
            .metric = Text(*record, "metric"),
            .value = record->Number("value")};
  }
  throw IoError(
      fmt::format("{}: error: this does not say how the run ended; remove the file, and the run is "
                  "gone on with",
                  file));
}

void WriteOutcome(const std::filesystem::path& run_folder, const RunOutcome& outcome) {
  ReplaceFile(run_folder / kOutcomeFile, OutcomeText(outcome));
}

std::optional<RunOutcome> ReadOutcome(const std::filesystem::path& run_folder) {
  const std::filesystem::path file = run_folder / kOutcomeFile;
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::string line;
  std::getline(in, line);
  return ParseOutcome(line, file.string());
}

}  // namespace hearth
