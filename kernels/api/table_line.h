// A line of the tables that say which algorithm serves which op: "NAME/VERSION field=word ...
// check=SUM".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace hearth {

// The line, whose fields are all there, with its checksum and its end.
std::string SealTableLine(std::string line);

// Calls visit(line, number from 1) for each line that is not empty.
void ForEachTableLine(std::string_view text,
                      const std::function<void(std::string_view, int64_t)>& visit);

// IoError "TABLE, line N: WHAT", in one line of printable text whatever `what` contains.
[[noreturn]] void FailTableLine(std::string_view table, int64_t number, std::string what);

// Reads a sealed line field by field; FailTableLine for whatever is not as expected.
class TableLine {
 public:
  // `start` is what the line begins with, `table` names the table in messages.
  TableLine(std::string_view table, std::string_view start, std::string_view line, int64_t number);
  // The next field must be called `name`, and `read` must like its word.
  void Take(std::string_view name, const std::function<bool(std::string_view)>& read);
  // There must be no further field.
  void End() const;

 private:
  std::string_view table_;
  std::string_view rest_;
  int64_t number_;
};

// Decimal or hexadecimal; false for anything but digits and lower case.
std::string PrintNumber(int64_t value);
bool ReadNumber(std::string_view text, int64_t& value);
std::string PrintHex(uint64_t value, int64_t digits);
bool ReadHex(std::string_view text, uint64_t& value);

}  // namespace hearth
