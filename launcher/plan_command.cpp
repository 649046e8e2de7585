#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <fstream>
#include <optional>
#include <string>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/placement.h"
#include "launcher/program_info.h"
#include "launcher/run_check.h"
#include "launcher/supervisor.h"
#include "runtime/plan/memory_budget.h"
#include "runtime/plan/plan_file.h"
#include "runtime/plan/schedule.h"
#include "runtime/train/hardware_choice.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  AddRankCountOption(options);
  options->add_options()("out", po::value<std::string>()->value_name("PLAN.yaml"),
                         "write the plan there")(
      "hardware", po::value<std::string>()->value_name("NAME|FILE"),
      "plan for this hardware: a file, or one of configs/hardware by its name; default: this "
      "machine's")("tasks", po::bool_switch(),
                   "also print rank 0's tasks of a training step, in order");
}

// The steps that the plan is not of.
std::string DescribeFinish(const CheckedRun& run) {
  if (!run.finish) return "";
  const MemoryNeed need = NeedOf(run.finish->plan, run.model.spec);
  std::string text =
      fmt::format("The last {} of {} steps are in bf16", run.finish_steps, run.total_steps);
  if (run.hardware) {
    const StepEstimate estimate = EstimateStep(run.finish->plan, run.model.spec, *run.hardware);
    text += fmt::format(", {:.4g} ms each", estimate.seconds * 1e3);
  }
  text += fmt::format("; they take {} of each device, {} of the host for each rank.\n",
                      DescribeNeed(need.device_bytes, run.limits.device),
                      DescribeNeed(HostNeed(need, run.limits), run.limits.host));
  for (const auto& [path, value] : run.finish->values) {
    text += fmt::format("  in bf16 {}: {}\n", path, value);
  }
  return text;
}

int Run(const Invocation& invocation) {
  const ResolvedConfig resolved = LoadRun(invocation.file, invocation.overrides);
  const Placement placement = PlaceRanks(invocation, resolved.config);
  std::optional<HardwareProfile> other;
  if (invocation.Has("hardware")) {
    other = LoadHardware(invocation.Get<std::string>("hardware"), InstalledConfigs());
  }
  const CheckedRun run = CheckRun(resolved, placement.Grid(), !AreLocal(placement.hosts), other);
  std::optional<StepEstimate> estimate;
  std::string explanation = DescribeChoice(run.choice, run.limits);
  if (run.hardware) {
    estimate = EstimateStep(run.plan, run.model.spec, *run.hardware);
    explanation = DescribeEstimate(*estimate) + BoxesWarning(run, *run.hardware) + explanation;
  }
  explanation += DescribeFinish(run);
  const std::string text = PlanFileText({.resolved = run.choice.resolved,
                                         .plan = run.plan,
                                         .spec = run.model.spec,
                                         .explanation = explanation,
                                         .estimate = estimate});
  const auto print_tasks = [&] {
    if (!invocation.Get<bool>("tasks")) return;
    fmt::print("{}", PrintSchedule(BuildSchedule(Phase::kTrain, run.plan, run.model.spec, 0)));
  };
  if (!invocation.Has("out")) {
    fmt::print("{}", text);
    print_tasks();
    return kExitDone;
  }
  const std::string& path = invocation.Get<std::string>("out");
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw IoError(fmt::format("{}: cannot be written", path));
  fmt::print("{}", explanation);
  print_tasks();
  return kExitDone;
}

}  // namespace

Command MakePlanCommand() {
  return {.name = "plan",
          .file = "RUN.yaml",
          .summary = "show where a run's data will live and how much memory it takes",
          .details = "",
          .takes_run_keys = true,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
