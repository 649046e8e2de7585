#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/device_choice.h"
#include "launcher/placement.h"
#include "launcher/program_info.h"
#include "launcher/run_check.h"
#include "launcher/supervisor.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/schedule.h"
#include "runtime/plan/step_estimate.h"
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

// As told, or of this machine's devices.
std::optional<HardwareProfile> ChooseHardware(const Invocation& invocation,
                                              const ResolvedConfig& resolved) {
  if (invocation.Has("hardware")) {
    return LoadHardware(invocation.Get<std::string>("hardware"), InstalledConfigs());
  }
  return FindHardware(DeviceName(resolved.config.device), InstalledConfigs());
}

std::string AsComment(const std::string& lines) {
  std::string text;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) text += "# " + line + "\n";
  return text;
}

int Run(const Invocation& invocation) {
  const ResolvedConfig resolved = LoadRun(invocation.file, invocation.overrides);
  const Placement placement = PlaceRanks(invocation, resolved.config);
  const CheckedRun run = CheckRun(resolved, placement.Grid(), !AreLocal(placement.hosts));
  const auto hardware = ChooseHardware(invocation, resolved);
  std::string text = PlanYaml(run.plan, run.model.spec);
  std::string explanation;
  if (hardware) {
    const StepEstimate estimate = EstimateStep(run.plan, run.model.spec, *hardware);
    explanation = DescribeEstimate(estimate, *hardware) + BoxesWarning(run, *hardware);
    text = AsComment(explanation) + text + EstimateYaml(estimate, *hardware);
  }
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
