// Ranks of this program on this host that a command starts for itself, for a short time.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "launcher/running_command.h"

namespace hearth {

struct OwnRanks {
  int ranks = 2;
  std::vector<std::string> arguments;  // of this program, on every rank
  std::chrono::milliseconds silence;   // after which they are given up
  std::optional<std::chrono::milliseconds> init_timeout = {};
};

// Runs them by mpirun until they end or fall silent; none is left then. Not started, with the
// reason as output, where there is no mpirun.
CommandEnd RunOwnRanks(const OwnRanks& job);

}  // namespace hearth
