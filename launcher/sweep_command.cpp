#include <fmt/format.h>
#include <signal.h>

#include <boost/program_options/value_semantic.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "launcher/command.h"
#include "launcher/host_rates_cache.h"
#include "launcher/run_lock.h"
#include "launcher/supervisor.h"
#include "launcher/sweep_outcome.h"
#include "launcher/sweep_plan.h"
#include "launcher/sweep_results.h"
#include "launcher/sweep_run_folder.h"
#include "launcher/sweep_scheduler.h"
#include "runtime/config/sweep_runs.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

// A killed sweep leaves the lock as it dies.
constexpr std::chrono::seconds kLockPatience{1};

void AddOptions(po::options_description* options) {
  options->add_options()("dry-run", po::bool_switch(),
                         "check and plan every run, print them, create nothing");
}

std::string StateOf(const PlannedRun& run, const SweepConfig& sweep) {
  const KnownRun known = LookAtRun(run, sweep);
  if (known.outcome && known.outcome->state == RunEndState::kFailed) return "failed, tried again";
  if (known.outcome) return StateWords(known.outcome->state);
  if (known.log.last_step() == 0) return "to run";
  return fmt::format("goes on from step {}", known.log.last_step());
}

// One line about the sweep as a whole.
std::string Describe(const SweepPlan& plan) {
  std::string text =
      fmt::format("{}: {} runs, {} at once", plan.config.file_name, plan.runs.size(), plan.slots);
  const int64_t gpus = plan.runs[0].needs.gpus;
  if (gpus > 0) text += fmt::format(", {} of {} GPUs each", gpus, plan.machine.gpus.size());
  if (plan.excluded > 0) text += fmt::format("; {} combinations excluded", plan.excluded);
  if (plan.beyond_cap > 0) text += fmt::format("; {} left out by run_cap", plan.beyond_cap);
  return text + fmt::format("; into {}", plan.folder.string());
}

void PrintRuns(const SweepPlan& plan) {
  std::vector<std::string> heading = {"run", "steps", "state"};
  for (const std::string& key : plan.keys) heading.push_back(ShortKey(plan.keys, key));
  std::vector<std::vector<std::string>> rows = {heading};
  for (const PlannedRun& run : plan.runs) {
    std::vector<std::string> row = {run.id, fmt::format("{}", run.total_steps),
                                    StateOf(run, plan.config)};
    row.insert(row.end(), run.values.begin(), run.values.end());
    rows.push_back(std::move(row));
  }
  fmt::print("{}", FormatColumns(rows));
  for (const std::string& id : FindRemovedRuns(plan)) {
    fmt::print("{} is in the folder, but no longer in {}\n", id, plan.config.file_name);
  }
}

int Run(const Invocation& invocation) {
  const bool dry_run = invocation.Get<bool>("dry-run");
  // Not by the runs, which would all measure at once.
  if (!dry_run) MeasureHostFor(DeviceKind::kAuto);
  const SweepPlan plan = PlanSweep(invocation.file, LookAtMachine());
  fmt::print("{}\n", Describe(plan));
  if (dry_run) {
    PrintRuns(plan);
    return kExitDone;
  }
  std::fflush(stdout);
  signal(SIGPIPE, SIG_IGN);  // a closed terminal does not end the runs
  const RunLock lock(plan.folder, kLockPatience);
  ReplaceFile(plan.folder / "sweep.yaml", plan.text);  // what the results are about
  return SweepScheduler(plan).Run();
}

}  // namespace

Command MakeSweepCommand() {
  return {
      .name = "sweep",
      .file = "SWEEP.yaml",
      .summary = "train many variations of a run and compare them",
      .details =
          "Runs as many at once as the machine has room for. Called again, also after a kill or\n"
          "after SWEEP.yaml was edited, it goes on: no run that has ended is run again. Ctrl-C\n"
          "(or SIGTERM): the runs finish their step, save, end; twice: end at once.",
      .takes_run_keys = false,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
