// White space as Python's str.strip() sees it, which is what chat templates trim.
#pragma once

#include <string_view>

namespace hearth {

// Without the white space of Unicode at both ends (str.isspace of Python). The text is UTF-8;
// bytes that are not are no white space.
std::string_view TrimWhiteSpace(std::string_view text);

}  // namespace hearth
