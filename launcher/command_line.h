// From main's arguments to a command and its exit code.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <string>
#include <vector>

#include "launcher/command.h"

namespace hearth {

// Runs what the arguments (without the program's name) ask for and returns the exit code; errors
// are told on standard error.
int RunCommandLine(const std::vector<std::string>& arguments);

// Takes the arguments apart as RunCommandLine does and runs nothing. ConfigError for what it would
// refuse before it runs the command.
void CheckCommandLine(const std::vector<std::string>& arguments);

// A command's options, --help among them; not the keys of run.yaml.
boost::program_options::options_description CommandOptions(const Command& command);

// "hearth train RUN.yaml [options] ..."
std::string UsageLine(const Command& command);

}  // namespace hearth
