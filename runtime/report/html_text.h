// Text from files inside a page, where none of it may become markup or script.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// For element content and quoted attributes: markup is escaped, broken UTF-8 and control characters
// are replaced.
std::string EscapeHtml(std::string_view text);

// A JSON string that may stand in a script element: no '<', no line separators.
std::string ScriptString(std::string_view text);

// The shortest form with `digits` significant digits that JSON reads; "null" where not finite.
std::string ScriptNumber(double value, int digits);

// At most `most_bytes` of it, whole characters, with an ellipsis in place of the rest.
std::string Shortened(std::string_view text, int64_t most_bytes);

// "12,345"
std::string GroupedInteger(int64_t value);

// Five significant digits, so that those of a column stand below each other; "" for none.
std::string NumberText(const std::optional<double>& value);

}  // namespace hearth
