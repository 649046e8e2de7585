// How many blocks have to keep their optimizer state on the device where the host has no room for
// it. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/plan/memory_budget.h"

namespace hearth {

struct ResidentFit {
  int64_t layers = 0;
  MemoryNeed need;
};

// The fewest resident blocks with which a plan fits, more than none; nullopt where no number does.
// `plan` has none and takes `need`; `need_with` counts it with so many, nullopt where that is no
// run.
std::optional<ResidentFit> FewestResidentLayers(
    const Plan& plan, const ModelSpec& spec, const MemoryNeed& need, const MemoryLimits& limits,
    const std::function<std::optional<MemoryNeed>(int64_t)>& need_with);

}  // namespace hearth
