// A sweep's metric over each of its parameters, as pictures.
#pragma once

#include <string>

#include "runtime/report/run_data.h"

namespace hearth {

// A <figure> for each key: a dot for each run with a value, at the key's value, and a line through
// the best. Numbers have an axis, logarithmic where they span much; other values stand side by
// side. The words that a pointer brings up are in data-tip.
std::string ParameterFigures(const SweepData& sweep, int64_t most_runs);

}  // namespace hearth
