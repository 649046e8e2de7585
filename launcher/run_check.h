// Everything about a run that can be found wrong without starting it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/config/resolved_config.h"
#include "runtime/plan/plan.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// A configuration with what it leads to.
struct CheckedRun {
  ResolvedConfig resolved;
  ModelSetup model;
  Plan plan;
  int64_t total_steps = 0;
};

// LoadConfig with this build and installation.
ResolvedConfig LoadRun(const std::string& file, const std::vector<Override>& overrides);

// Looks at what a configuration names, the model's file and every dataset, and plans it for that
// many ranks, all of them here unless `are_remote`. Creates nothing. ConfigError for whatever is
// wrong, BudgetError for what is known not to fit: a GPU's own memory is looked at by the ranks.
CheckedRun CheckRun(const ResolvedConfig& resolved, int ranks, bool are_remote);

// One line about a run that is fine.
std::string DescribeRun(const CheckedRun& run);

}  // namespace hearth
