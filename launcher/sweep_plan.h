// A sweep, checked and planned run by run before anything is started.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/sweep_packing.h"
#include "runtime/config/resolved_config.h"
#include "runtime/config/sweep_config.h"

namespace hearth {

struct PlannedRun {
  // 16 hexadecimal digits of the hash of ResolvedConfig::IdentityText.
  std::string id;
  std::filesystem::path folder;     // <the sweep's folder>/<id>
  ResolvedConfig resolved;          // with the folder and the id as its name
  std::vector<std::string> values;  // of SweepPlan::keys
  RunNeeds needs;
  int64_t total_steps = 0;
  double work = 0;  // in any unit that is the same for all runs
};

struct SweepPlan {
  SweepConfig config;
  std::string text;  // of the sweep's file
  std::filesystem::path folder;
  std::vector<std::string> keys;  // that may differ between the runs
  std::vector<PlannedRun> runs;   // in the order in which they are tried
  int64_t excluded = 0;           // combinations
  int64_t beyond_cap = 0;
  SweepMachine machine;
  int64_t slots = 1;  // runs at once
};

// Creates nothing. ConfigError for whatever is wrong with the file, its base or a run, BudgetError
// for a run that does not fit.
SweepPlan PlanSweep(const std::string& file, const SweepMachine& machine);

// What a run asks of the machine. ConfigError where it cannot have it.
RunNeeds NeedsOf(const ResolvedConfig& resolved, const SweepConfig& sweep,
                 const SweepMachine& machine);

}  // namespace hearth
