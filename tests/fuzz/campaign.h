// Many executions of many targets, spread over processes.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace hearth::test {

struct CampaignOptions {
  std::vector<FuzzTarget> targets;
  uint64_t executions = 0;  // of each target
  uint64_t seed = 1;
  uint64_t processes = 1;
  uint64_t seconds = 0;  // after which it stops, with what it has; 0: no limit
};

// Takes the targets in turn, a piece of each at a time, so that those that take long are shared and
// a run that stops early has as much of each. Tells every ten seconds how far it is, and in the end
// one line a target with its executions. Returns whether no target failed and all were run in full.
bool RunCampaign(const CampaignOptions& options);

}  // namespace hearth::test
