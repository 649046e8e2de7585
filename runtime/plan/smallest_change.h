// What to write in a run that does not fit.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/plan/memory_budget.h"

namespace hearth {

using KeyValues = std::vector<std::pair<std::string, std::string>>;

// Keys of run.yaml with the values that would make the run fit: as few as will do, each turned as
// little as will do; what costs least time is tried first, and the micro-batch, part of the
// numerics, last. Empty where nothing fits.
KeyValues SmallestChange(const ResolvedConfig& resolved, const ModelSpec& spec,
                         const RankGrid& grid, const MemoryLimits& limits);

// BudgetError where the plan of `resolved` breaks a limit, with the smallest change as its remedy.
void RequirePlanFits(const ResolvedConfig& resolved, const Plan& plan, const ModelSpec& spec,
                     const MemoryLimits& limits);

}  // namespace hearth
