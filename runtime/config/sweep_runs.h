// From sweep.yaml and its base to the runs it stands for. Pure: the same texts give the same runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/config/resolved_config.h"
#include "runtime/config/sweep_config.h"

namespace hearth {

struct SweepRun {
  ResolvedConfig resolved;
  // Of SweepConfig::Keys(), in that order, as resolved.yaml has them.
  std::vector<std::string> values;
};

struct SweepRuns {
  std::vector<SweepRun> runs;  // no two alike, in the order in which they are tried
  int64_t excluded = 0;        // combinations, by `exclude`
  int64_t beyond_cap = 0;      // combinations, by run_cap; not counted for method random
};

// The values drawn for a key: a function of the sweep's seed, the key and the draw's number alone,
// so other keys and further draws change nothing. Four significant digits, within the bounds.
std::string DrawValue(const SweepDraw& draw, int64_t seed, int64_t index);

// `base_text`: of the file sweep.base. ConfigError for a run that is wrong, naming its values, for
// two runs that are the same, and for too many.
SweepRuns ExpandSweep(const SweepConfig& sweep, const std::string& base_text,
                      const BuildFeatures& features);

// "learning_rate 0.001, seed 2": values under the last parts of the keys' names.
std::string DescribeValues(const std::vector<std::string>& keys,
                           const std::vector<std::string>& values);

// "learning_rate"; the whole path where another of `keys` ends alike.
std::string ShortKey(const std::vector<std::string>& keys, const std::string& key);

}  // namespace hearth
