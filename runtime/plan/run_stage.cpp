#include "runtime/plan/run_stage.h"

#include <fmt/format.h>

#include <string>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/plan/smallest_change.h"

namespace hearth {

RunStage StageOf(const PrecisionSection& precision, int64_t total_steps, int64_t step) {
  CHECK(step >= 1, "step {} has no stage", step);
  const int64_t finish = FinishSteps(precision, total_steps);
  if (finish == 0) return {.last_step = total_steps};
  const int64_t last_in_fp8 = total_steps - finish;
  if (step <= last_in_fp8) return {.last_step = last_in_fp8};
  return {.last_step = total_steps, .in_bf16 = true};
}

ResolvedConfig StageConfig(const ResolvedConfig& run, const RunStage& stage) {
  ResolvedConfig resolved = run;
  if (!stage.in_bf16) return resolved;
  PrecisionSection& precision = resolved.config.precision;
  precision.compute_dtype = ComputeDtype::kBf16;
  precision.fp8_lm_head = false;
  precision.bf16_finish_ratio = 0;
  return resolved;
}

ResolvedConfig OfWholeRun(ResolvedConfig planned, const ResolvedConfig& run) {
  planned.config.precision = run.config.precision;
  return planned;
}

ResolvedConfig FinishConfig(const ResolvedConfig& run, const NumericConfiguration& numeric) {
  ResolvedConfig resolved = StageConfig(run, {.in_bf16 = true});
  resolved.SetPlanned("training.micro_batch_size", std::to_string(numeric.micro_batch_size));
  resolved.SetPlanned("memory.head_slab_tokens", std::to_string(numeric.head_slab_tokens));
  resolved.SetPlanned("parallel.reduction_order", EnumName(numeric.reduction_order));
  return resolved;
}

void RequireFinishFits(const ResolvedConfig& finish, const Plan& plan, const ModelSpec& spec,
                       const MemoryLimits& limits) {
  try {
    RequirePlanFits(finish, plan, spec, limits);
  } catch (const BudgetError& error) {
    throw BudgetError(fmt::format(
        "{}; these are the last steps, in bf16: precision.bf16_finish_ratio: 0 leaves them in FP8",
        error.what()));
  }
}

}  // namespace hearth
