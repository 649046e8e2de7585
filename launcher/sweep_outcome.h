// How a run of a sweep has ended, kept in its folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// Ends that no further call changes, but for kFailed, which is tried again.
enum class RunEndState { kFinished, kStoppedEarly, kDiverged, kFailed };

std::string_view Name(RunEndState state);   // "stopped_early"
std::string StateWords(RunEndState state);  // "stopped early"

struct RunOutcome {
  RunEndState state = RunEndState::kFinished;
  int64_t step = 0;  // the last one in the log
  int exit_code = 0;
  std::string message;  // why, where there is something to say
  std::string metric;   // the name `value` is of
  std::optional<double> value;
};

// Writes a whole file in one step: at any time there is the old one or the new one. IoError.
void ReplaceFile(const std::filesystem::path& file, const std::string& text);

// One line, and the other way: IoError about `file` for a text that is not what was written.
std::string OutcomeText(const RunOutcome& outcome);
RunOutcome ParseOutcome(std::string_view text, const std::string& file);

void WriteOutcome(const std::filesystem::path& run_folder, const RunOutcome& outcome);

// nullopt where the run has not ended. IoError for a file that is not what was written.
std::optional<RunOutcome> ReadOutcome(const std::filesystem::path& run_folder);

}  // namespace hearth
