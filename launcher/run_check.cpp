#include "launcher/run_check.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/device_choice.h"
#include "launcher/program_info.h"
#include "launcher/run_communicator.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/train/machine_memory.h"

namespace hearth {

ResolvedConfig LoadRun(const std::string& file, const std::vector<Override>& overrides) {
  return LoadConfig(file, InstalledConfigs(), overrides, BuiltFeatures());
}

CheckedRun CheckRun(const ResolvedConfig& resolved, int ranks, bool are_remote) {
  ModelSetup model = SetUpModel(resolved, InstalledConfigs());
  const auto data = OpenTrainingData(resolved, model.spec);
  OpenEvaluationData(resolved, model.spec);
  Plan plan = MakePlan(resolved, model.spec, ranks);
  const bool uses_gpus = UsesGpus(resolved.config.device);
  // On several hosts with as many ranks on each as there may be: nothing is known of them here.
  plan.ranks_per_host = ranks;
  const ExpectedExchange exchange = ExpectExchange(resolved.config, ranks, uses_gpus, !are_remote);
  plan.communicator = exchange.memory;
  plan.exchange = ranks > 1 ? exchange.description : "";
  const int64_t total_steps = TotalSteps(resolved, plan, *data);
  if (!are_remote) {
    const MachineMemory machine = HostOf(ranks, uses_gpus, plan.communicator);
    RequirePlanFits(resolved, plan, model.spec, LimitsOf(resolved.config.memory, machine));
  }
  return {.resolved = resolved,
          .model = std::move(model),
          .plan = std::move(plan),
          .total_steps = total_steps};
}

std::string DescribeRun(const CheckedRun& run) {
  const RunConfig& config = run.resolved.config;
  return fmt::format("{}: fine: {} steps of {} sequences of {} tokens; {}, {}; {} ranks; into {}",
                     run.resolved.file_name, run.total_steps, run.plan.global_batch_size,
                     run.plan.sequence_len, config.model.name_or_path,
                     EnumName(config.precision.compute_dtype), run.plan.world, config.output_dir);
}

}  // namespace hearth
