// From main's arguments to a command and its exit code.
#pragma once

#include <string>
#include <vector>

namespace hearth {

// Runs what the arguments (without the program's name) ask for and returns the exit code; errors
// are told on standard error.
int RunCommandLine(const std::vector<std::string>& arguments);

}  // namespace hearth
