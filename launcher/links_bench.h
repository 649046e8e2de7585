// `hearth bench links`.
#pragma once

#include <chrono>

#include "runtime/config/run_config.h"

namespace hearth {

struct LinksBenchCommand {
  DeviceKind device = DeviceKind::kAuto;
  int ranks = 0;  // to start; 0: one per GPU, 2 on the CPU
  int repetitions = 5;
  std::chrono::milliseconds silence{120'000};  // after which the ranks are given up
};

// As one of several ranks of mpirun measures with them; alone starts that many ranks and prints
// what rank 0 says. The exit code.
int BenchLinksCommand(const LinksBenchCommand& command);

}  // namespace hearth
