// "Did you mean": the nearest of a list of words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// The candidate fewest edits (insert, delete, replace, swap of neighbours) away from `word`, or ""
// when none is within a third of the word's length. Letter case and - against _ cost nothing. The
// first of equals wins.
std::string_view ClosestWord(std::string_view word,
                             const std::vector<std::string_view>& candidates);

// `text` made fit for one line of a message: at most 80 bytes, control characters escaped.
std::string Printable(std::string_view text);

}  // namespace hearth
