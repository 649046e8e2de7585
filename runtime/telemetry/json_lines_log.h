// log.jsonl: one StepRecord a line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

// A line of the log, without its end; nullopt for one that is no record of ours.
std::optional<StepRecord> ParseJsonLine(const std::string& line);

// Leaves only the whole records of steps up to `step` (-1: none). Records are dropped behind that
// step, and lines that are no record, such as the torn last line of a killed run. The file is
// replaced atomically; a file that does not exist stays so. IoError when it cannot be read or
// rewritten; it is then as it was.
void CutBackTo(const std::filesystem::path& log, int64_t step);

// Calls `use` with every whole record of the file, in order; other lines are passed over. Numbers
// with a fraction or an exponent become doubles. A file that does not exist has no records. IoError
// when reading fails.
void ReadJsonLines(const std::filesystem::path& log,
                   const std::function<void(const StepRecord&)>& use);

class JsonLinesLog {
 public:
  // Appends to the file, which is created when missing. IoError when that fails.
  explicit JsonLinesLog(const std::filesystem::path& path) : file_(path) {}

  // The record is in the file, whole, when this returns. IoError, and nothing written, when not.
  void Append(const StepRecord& record) { file_.Append(ToJson(record) + "\n"); }
  void Sync() { file_.Sync(); }

 private:
  AppendFile file_;
};

}  // namespace hearth
