// One string field of each line of a JSON-lines file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// Limits of a line, checked before or while it is parsed.
inline constexpr int64_t kMaxJsonlLineBytes = int64_t{64} << 20;
inline constexpr int kMaxJsonlDepth = 64;

// Walks the lines of `text`, which must outlive the reader; lines of white space are skipped. A
// line must be one strict JSON object in UTF-8, no key twice, with a string under `field`;
// otherwise ConfigError("PATH:LINE:COLUMN: error: what; remedy").
class JsonlReader {
 public:
  // `first_line`: the number of the text's first line in its file.
  JsonlReader(std::string path, std::string_view text, std::string field, int64_t first_line = 1);

  // The field of the next line, or nullopt at the end.
  std::optional<std::string> Next();
  int64_t bytes_read() const { return position_; }
  // Refuses the line read last.
  [[noreturn]] void Refuse(std::string_view what_and_remedy) const;

 private:
  std::string Parse(std::string_view line) const;
  [[noreturn]] void RefuseForm(int64_t column, const std::string& what) const;

  std::string path_;
  std::string_view text_;
  std::string field_;
  int64_t position_ = 0;
  int64_t line_ = 0;  // 1-based, of the line read last
};

}  // namespace hearth
