#include "launcher/run_check.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/core/error.h"
#include "launcher/device_choice.h"
#include "launcher/host_rates_cache.h"
#include "launcher/program_info.h"
#include "launcher/run_communicator.h"
#include "launcher/run_links.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/suggestion.h"
#include "runtime/plan/plan_file.h"
#include "runtime/plan/run_stage.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/plan/step_estimate.h"
#include "runtime/train/hardware_choice.h"
#include "runtime/train/machine_memory.h"

namespace hearth {

ResolvedConfig LoadRun(const std::string& file, const std::vector<Override>& overrides) {
  ResolvedConfig resolved = LoadConfig(file, InstalledConfigs(), overrides, BuiltFeatures());
  if (resolved.config.memory.plan.mode == PlanMode::kFile) {
    ApplyPlanFile(ReadPlanFile(resolved), resolved.config.memory.plan.path, BuiltFeatures(),
                  &resolved);
  }
  return resolved;
}

std::string ReadPlanFile(const ResolvedConfig& resolved) {
  if (resolved.config.memory.plan.mode != PlanMode::kFile) return "";
  const std::string& name = resolved.config.memory.plan.path;
  const auto found = FindConfigFile(name, InstalledConfigs());
  if (!found) {
    resolved.Fail("memory.plan", fmt::format("there is no file '{}'; write auto, manual, or the "
                                             "path of a plan.yaml",
                                             Printable(name)));
  }
  return ReadConfigText(*found, name);
}

CheckedRun CheckRun(const ResolvedConfig& resolved, const RankGrid& grid, bool are_remote,
                    const std::optional<HardwareProfile>& other) {
  const ModelSetup model = SetUpModel(resolved, InstalledConfigs());
  const auto data = OpenTrainingData(resolved, model.spec);
  OpenEvaluationData(resolved, model.spec);
  const bool gpus = UsesGpus(resolved.config.device);
  const int ranks_per_box = grid.ranks / grid.boxes;
  const bool one_host = !are_remote || grid.boxes > 1;
  const ExpectedExchange exchange = ExpectExchange(resolved.config, ranks_per_box, gpus, one_host);
  CommunicatorMemory communicator = exchange.memory;
  if (grid.boxes > 1) communicator += NetworkMemory(resolved.config, grid.boxes, gpus);
  const auto hardware =
      other ? other : HardwareOf(DeviceName(resolved.config.device), gpus, InstalledConfigs());
  const auto rates = other || are_remote ? std::nullopt : CachedHostRates();
  const auto here =
      hardware && rates ? std::optional(WithHost(*hardware, *rates, ranks_per_box)) : hardware;
  const MachineMemory machine = other        ? WithDevice({}, *other)
                                : are_remote ? MachineMemory{.device_is_host = !gpus}
                                             : HostOf(grid.ranks, gpus, communicator);
  const MemoryLimits limits = LimitsOf(resolved.config.memory, machine);
  // What a GPU has is for its ranks to measure: what its file says decides a choice, and refuses
  // nothing.
  const MemoryLimits expected =
      gpus && hardware ? LimitsOf(resolved.config.memory, WithDevice(machine, *hardware)) : limits;
  const auto choose = [&](const ResolvedConfig& config) {
    ChosenPlan choice =
        hardware
            ? ChoosePlan({config, model.spec, grid, expected, *hardware, rates ? &*here : nullptr})
            : LeavePlan(config, model.spec, grid, limits);
    choice.plan.ranks_per_host = ranks_per_box;
    choice.plan.communicator = communicator;
    choice.plan.exchange = grid.ranks > 1 ? exchange.description : "";
    return choice;
  };
  const ChosenPlan choice = choose(resolved);
  CheckedRun run{.resolved = resolved,
                 .model = model,
                 .plan = choice.plan,
                 .choice = choice,
                 .hardware = here,
                 .limits = expected};
  run.total_steps = TotalSteps(resolved, run.plan.global_batch_size, *data);
  const bool knows_memory = !are_remote || other;
  if (knows_memory) RequirePlanFits(run.choice.resolved, run.plan, model.spec, limits);
  run.finish_steps = FinishSteps(resolved.config.precision, run.total_steps);
  if (run.finish_steps == 0) return run;
  run.finish = choose(FinishConfig(resolved, run.plan.numeric));
  if (knows_memory) {
    RequireFinishFits(run.finish->resolved, run.finish->plan, model.spec, limits);
  }
  return run;
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
  std::string precision(EnumName(config.precision.compute_dtype));
  if (run.finish_steps > 0) precision += fmt::format(", the last {} in bf16", run.finish_steps);
  return fmt::format("{}: fine: {} steps of {} sequences of {} tokens; {}, {}; {} ranks; into {}",
                     run.resolved.file_name, run.total_steps, run.plan.global_batch_size,
                     run.plan.sequence_len, config.model.name_or_path, precision, run.plan.world,
                     config.output_dir);
}

}  // namespace hearth
