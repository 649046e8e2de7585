// Everything about a run that can be found wrong without starting it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/config/resolved_config.h"
#include "runtime/plan/planner.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// A configuration with what it leads to.
struct CheckedRun {
  ResolvedConfig resolved;
  ModelSetup model;
  Plan plan;
  ChosenPlan choice;  // how it was chosen, by what is known here
  std::optional<HardwareProfile> hardware;
  MemoryLimits limits;
  int64_t total_steps = 0;
  // Of the last steps, where they are in bf16 behind steps in FP8.
  std::optional<ChosenPlan> finish = std::nullopt;
  int64_t finish_steps = 0;
};

// LoadConfig with this build and installation, and the plan's file where it names one.
ResolvedConfig LoadRun(const std::string& file, const std::vector<Override>& overrides);

// A plan's file that the configuration names, looked up as other files; "" without one.
std::string ReadPlanFile(const ResolvedConfig& resolved);

// Looks at what a configuration names, the model's file and every dataset, and plans it for these
// ranks, all of them here unless `are_remote`. Creates nothing. ConfigError for whatever is
// wrong, BudgetError for what is known not to fit: a GPU's own memory is looked at by the ranks.
// `other`: another machine's devices that it is planned for; its host's memory is then not known.
CheckedRun CheckRun(const ResolvedConfig& resolved, const RankGrid& grid, bool are_remote,
                    const std::optional<HardwareProfile>& other = std::nullopt);

// A line where one box of the run is expected to be faster than all; "" where not, or where one box
// cannot form the batch.
std::string BoxesWarning(const CheckedRun& run, const HardwareProfile& hardware);

// One line about a run that is fine.
std::string DescribeRun(const CheckedRun& run);

}  // namespace hearth
