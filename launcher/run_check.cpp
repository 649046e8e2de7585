#include "launcher/run_check.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/core/error.h"
#include "launcher/device_choice.h"
#include "launcher/program_info.h"
#include "launcher/run_communicator.h"
#include "launcher/run_links.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/plan/step_estimate.h"
#include "runtime/train/machine_memory.h"

namespace hearth {

ResolvedConfig LoadRun(const std::string& file, const std::vector<Override>& overrides) {
  return LoadConfig(file, InstalledConfigs(), overrides, BuiltFeatures());
}

CheckedRun CheckRun(const ResolvedConfig& resolved, const RankGrid& grid, bool are_remote) {
  ModelSetup model = SetUpModel(resolved, InstalledConfigs());
  const auto data = OpenTrainingData(resolved, model.spec);
  OpenEvaluationData(resolved, model.spec);
  Plan plan = MakePlan(resolved, model.spec, grid);
  const bool uses_gpus = UsesGpus(resolved.config.device);
  plan.ranks_per_host = plan.RanksPerBox();
  const bool one_host = !are_remote || plan.boxes > 1;
  const ExpectedExchange exchange =
      ExpectExchange(resolved.config, plan.RanksPerBox(), uses_gpus, one_host);
  plan.communicator = exchange.memory;
  if (plan.boxes > 1) plan.communicator += NetworkMemory(resolved.config, plan.boxes, uses_gpus);
  plan.exchange = grid.ranks > 1 ? exchange.description : "";
  const int64_t total_steps = TotalSteps(resolved, plan, *data);
  if (!are_remote) {
    const MachineMemory machine = HostOf(grid.ranks, uses_gpus, plan.communicator);
    RequirePlanFits(resolved, plan, model.spec, LimitsOf(resolved.config.memory, machine));
  }
  return {.resolved = resolved,
          .model = std::move(model),
          .plan = std::move(plan),
          .total_steps = total_steps};
}

std::string BoxesWarning(const CheckedRun& run, const HardwareProfile& hardware) {
  if (run.plan.boxes == 1) return "";
  try {
    const Plan one_box = MakePlan(run.resolved, run.model.spec, run.plan.RanksPerBox());
    return WarnOfSlowBoxes(run.plan, one_box, run.model.spec, hardware);
  } catch (const ConfigError&) {
    return "";
  }
}

std::string DescribeRun(const CheckedRun& run) {
  const RunConfig& config = run.resolved.config;
  return fmt::format("{}: fine: {} steps of {} sequences of {} tokens; {}, {}; {} ranks; into {}",
                     run.resolved.file_name, run.total_steps, run.plan.global_batch_size,
                     run.plan.sequence_len, config.model.name_or_path,
                     EnumName(config.precision.compute_dtype), run.plan.world, config.output_dir);
}

}  // namespace hearth
