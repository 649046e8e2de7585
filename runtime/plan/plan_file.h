// plan.yaml: what a run will do, for people, and what was chosen for it, for another run to take
// over (`memory.plan: FILE`).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/plan/planner.h"

namespace hearth {

struct PlanFile {
  const ResolvedConfig& resolved;
  const Plan& plan;
  const ModelSpec& spec;
  std::string explanation;               // lines that become comments
  std::optional<StepEstimate> estimate;  // of a step
};

// The choices first, then the plan that follows from them, its memory and the predicted step.
std::string PlanFileText(const PlanFile& file);

// Takes over the `choices` of a plan file: keys of run.yaml with values, which may be edited or
// left out. Nothing else of the file is read but its version. ConfigError for a key that no planner
// chooses, a value that is not allowed, and one that contradicts the configuration.
void ApplyPlanFile(std::string_view text, const std::string& file_name,
                   const BuildFeatures& features, ResolvedConfig* resolved);

}  // namespace hearth
