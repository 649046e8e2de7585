// docs/commands.md: every command, option and key, out of the tables that the program itself uses.
#pragma once

#include <string>

namespace hearth {

// Markdown. The same for every build: what only some builds have is in it.
std::string CommandReference();

}  // namespace hearth
