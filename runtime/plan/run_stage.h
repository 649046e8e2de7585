// An FP8 run may compute its last steps in bf16 (`precision.bf16_finish_ratio`). It then has two
// stages, each with a plan of its own, and a checkpoint between them. Pure.
#pragma once

#include <cstdint>

#include "runtime/plan/memory_budget.h"
#include "runtime/plan/plan.h"

namespace hearth {

struct RunStage {
  int64_t last_step = 0;
  bool in_bf16 = false;  // instead of the run's FP8
};

// The stage of a step in [1, total_steps + 1]; what is behind the last step belongs to the last
// stage.
RunStage StageOf(const PrecisionSection& precision, int64_t total_steps, int64_t step);

// What a stage is planned by: `run`, in bf16 where the stage is.
ResolvedConfig StageConfig(const ResolvedConfig& run, const RunStage& stage);

// What was planned for a stage, in the run's own precision again: that is what its files and
// checkpoints say.
ResolvedConfig OfWholeRun(ResolvedConfig planned, const ResolvedConfig& run);

// What the stage in bf16 will be planned by, behind steps that were planned with `numeric`: as on
// resume these choices stay.
ResolvedConfig FinishConfig(const ResolvedConfig& run, const NumericConfiguration& numeric);

// RequirePlanFits of a FinishConfig and its plan, whose error says which steps they are.
void RequireFinishFits(const ResolvedConfig& finish, const Plan& plan, const ModelSpec& spec,
                       const MemoryLimits& limits);

}  // namespace hearth
