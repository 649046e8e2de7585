// log.jsonl: one StepRecord a line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

// A line of the log, without its end; nullopt for one that is no record of ours. Numbers with a
// fraction or an exponent become doubles. The values are sorted by name; of two of one name the
// later counts.
std::optional<StepRecord> ParseJsonLine(std::string_view line);

// Takes a log in pieces, as a file is read, and gives its records.
class RecordLines {
 public:
  using Use = std::function<void(std::string_view line, const StepRecord& record)>;

  // Calls `use` for each whole line that ends in the piece and is a record. The line is valid
  // during the call.
  void Take(std::string_view piece, const Use& use);

  // Whole lines so far that were no records.
  int64_t other_lines() const { return other_lines_; }
  // What was taken ends within a line: it is being written, or its writer was killed.
  bool is_torn() const { return !rest_.empty(); }
  int64_t torn_bytes() const { return std::ssize(rest_); }

 private:
  void TakeLine(std::string_view line, const Use& use);

  std::string rest_;  // of a line whose end has not come
  int64_t other_lines_ = 0;
};

// Gives the bytes of a file from `offset` on, piece by piece; none where there is no file. IoError
// when reading fails.
void ReadPieces(const std::filesystem::path& file, int64_t offset,
                const std::function<void(std::string_view)>& use);

// Leaves only the whole records of steps up to `step` (-1: none). Records are dropped behind that
// step, and lines that are no record, such as the torn last line of a killed run. The file is
// replaced atomically; a file that does not exist stays so. IoError when it cannot be read or
// rewritten; it is then as it was.
void CutBackTo(const std::filesystem::path& log, int64_t step);

// Calls `use` with every whole record of the file, in order; other lines are passed over. A file
// that does not exist has no records. IoError when reading fails.
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
