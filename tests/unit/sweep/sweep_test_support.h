// Shared by the tests of sweeps.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/config/sweep_config.h"
#include "runtime/config/sweep_runs.h"

namespace hearth::test {

inline const std::string kBase =
    "model: {name_or_path: tiny.yaml}\n"
    "data: {datasets: [{path: a.hearth}]}\n"
    "training: {max_steps: 100}\n";

// A sweep of `more`, which starts in line 2.
inline SweepConfig Parse(const std::string& more) {
  return ParseSweep("base: run.yaml\n" + more, "sweep.yaml");
}

inline SweepRuns Expand(const std::string& more, const std::string& base = kBase) {
  return ExpandSweep(Parse(more), base, {});
}

// The values of each run, joined by blanks.
inline std::vector<std::string> Values(const SweepRuns& runs) {
  std::vector<std::string> rows;
  for (const SweepRun& run : runs.runs) {
    std::string row;
    for (const std::string& value : run.values) row += (row.empty() ? "" : " ") + value;
    rows.push_back(row);
  }
  return rows;
}

// The message of the ConfigError, "no error" where there is none.
template <typename Action>
std::string ErrorOf(const Action& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace hearth::test
