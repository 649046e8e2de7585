#include "launcher/sweep_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/backend.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "launcher/device_choice.h"
#include "launcher/placement.h"
#include "launcher/program_info.h"
#include "launcher/run_check.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/sweep_runs.h"
#include "runtime/data/hashing.h"
#include "runtime/plan/memory_layout.h"

namespace hearth {

namespace {

constexpr size_t kIdDigits = 16;

std::string ReadFileText(const std::string& path, const std::string& failure) {
  const auto found = FindConfigFile(path, InstalledConfigs());
  if (!found) throw ConfigError(failure);
  return ReadConfigText(*found, path);
}

bool UsesGpu(const ResolvedConfig& resolved, const SweepMachine& machine) {
  RequireDevice(resolved);
  return resolved.config.device != DeviceKind::kCpu && !machine.gpus.empty();
}

// What a sweep has to find in a run's log.
void RequireMetric(const ResolvedConfig& resolved, const SweepMetric& metric) {
  const std::vector<ReportTarget>& targets = resolved.config.logging.report_to;
  if (std::find(targets.begin(), targets.end(), ReportTarget::kJsonl) == targets.end()) {
    resolved.Fail("logging.report_to", "a sweep reads each run's log.jsonl; add jsonl");
  }
  if (metric.name == "eval/loss" && resolved.config.data.eval_datasets.empty()) {
    throw ConfigError(fmt::format(
        "{}: error: eval/loss is not logged, since the runs have no data.eval_datasets; add some "
        "to {}, or write metric: {{name: train/loss, goal: minimize}}",
        metric.place, resolved.file_name));
  }
}

int64_t BytesOf(const Plan& plan, const ModelSpec& spec) {
  int64_t bytes = 0;
  for (int rank = 0; rank < plan.world; ++rank) {
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
    bytes += layout.slab_bytes + layout.arena_bytes + layout.host_bytes;
  }
  return bytes;
}

// At the time when it takes most.
int64_t BytesOf(const CheckedRun& run) {
  const int64_t bytes = BytesOf(run.plan, run.model.spec);
  return run.finish ? std::max(bytes, BytesOf(run.finish->plan, run.model.spec)) : bytes;
}

PlannedRun PlanRun(const SweepRun& run, const SweepPlan& sweep) {
  RequireMetric(run.resolved, sweep.config.metric);
  PlannedRun planned{.resolved = run.resolved, .values = run.values};
  planned.id = ToHex(Xxh3Hash128(run.resolved.IdentityText())).substr(0, kIdDigits);
  planned.folder = sweep.folder / planned.id;
  planned.resolved.config.run_name = planned.id;
  planned.resolved.config.output_dir = planned.folder.string();
  for (const char* path : {"run_name", "output_dir"}) {
    planned.resolved.origins[path] = {.kind = OriginKind::kCommandLine, .text = "hearth sweep"};
  }
  planned.needs = NeedsOf(run.resolved, sweep.config, sweep.machine);
  const CheckedRun checked = CheckRun(planned.resolved, Narrow<int>(planned.needs.ranks), false);
  planned.needs.bytes = BytesOf(checked);
  planned.total_steps = checked.total_steps;
  planned.work = static_cast<double>(checked.total_steps) *
                 static_cast<double>(checked.plan.global_batch_size * checked.plan.sequence_len) *
                 static_cast<double>(checked.model.spec.ParameterCount());
  return planned;
}

// An error of one run, naming it.
std::string InRun(const std::exception& error, const SweepPlan& sweep, const SweepRun& run) {
  return fmt::format("{} (in the run {})", error.what(), DescribeValues(sweep.keys, run.values));
}

PlannedRun PlanNamedRun(const SweepRun& run, const SweepPlan& sweep) {
  try {
    return PlanRun(run, sweep);
  } catch (const BudgetError& error) {
    throw BudgetError(InRun(error, sweep, run));
  } catch (const ConfigError& error) {
    throw ConfigError(InRun(error, sweep, run));
  } catch (const IoError& error) {
    throw IoError(InRun(error, sweep, run));
  }
}

void RequireDifferentIds(const std::vector<PlannedRun>& runs) {
  std::vector<std::string> ids;
  for (const PlannedRun& run : runs) ids.push_back(run.id);
  std::sort(ids.begin(), ids.end());
  const auto twin = std::adjacent_find(ids.begin(), ids.end());
  CHECK(twin == ids.end(), "two different runs have the id {}", *twin);
}

}  // namespace

RunNeeds NeedsOf(const ResolvedConfig& resolved, const SweepConfig& sweep,
                 const SweepMachine& machine) {
  const LaunchSection& launch = resolved.config.launch;
  if (launch.hostfile) {
    resolved.Fail("launch.hostfile", "the runs of a sweep share this host; remove it");
  }
  RunNeeds needs{.ranks = launch.nproc_per_node.value_or(1)};
  const std::optional<int64_t>& gpus = sweep.schedule.gpus_per_run;
  if (UsesGpu(resolved, machine)) {
    if (gpus && launch.nproc_per_node && *gpus != needs.ranks) {
      resolved.Fail("launch.nproc_per_node",
                    fmt::format("{} ranks, but schedule.gpus_per_run of the sweep is {}; a rank "
                                "has one GPU: keep one of the two",
                                needs.ranks, *gpus));
    }
    needs.ranks = gpus.value_or(needs.ranks);
    needs.gpus = needs.ranks;
    if (needs.gpus > std::ssize(machine.gpus)) {
      throw ConfigError(fmt::format(
          "{}: error: a run needs {} GPUs and there are {}; lower schedule.gpus_per_run",
          gpus ? sweep.schedule.gpus_per_run_place : resolved.Place("launch.nproc_per_node"),
          needs.gpus, machine.gpus.size()));
    }
  }
  if (needs.ranks > kMostRanks) {
    resolved.Fail("launch.nproc_per_node",
                  fmt::format("{} ranks; write at most {}", needs.ranks, kMostRanks));
  }
  return needs;
}

SweepPlan PlanSweep(const std::string& file, const SweepMachine& machine) {
  const std::string text = ReadFileText(
      file, fmt::format("{}: error: there is no such file; give the path of a sweep.yaml", file));
  SweepPlan sweep{.config = ParseSweep(text, file), .text = text, .machine = machine};
  const SweepConfig& config = sweep.config;
  const std::string base = ReadFileText(
      config.base, fmt::format("{}: error: base: there is no file {}; give the path of a run.yaml",
                               config.base_place, config.base));
  SweepRuns expanded = ExpandSweep(config, base, BuiltFeatures());
  sweep.folder = config.output_dir;
  sweep.keys = config.Keys();
  sweep.excluded = expanded.excluded;
  sweep.beyond_cap = expanded.beyond_cap;
  std::vector<RunNeeds> needs;
  for (const SweepRun& run : expanded.runs) {
    sweep.runs.push_back(PlanNamedRun(run, sweep));
    needs.push_back(sweep.runs.back().needs);
  }
  RequireDifferentIds(sweep.runs);
  const bool uses_gpu =
      std::any_of(needs.begin(), needs.end(), [](const RunNeeds& run) { return run.gpus > 0; });
  if (config.schedule.gpus_per_run && !uses_gpu) {
    throw ConfigError(fmt::format(
        "{}: error: schedule.gpus_per_run: no run uses a GPU here ({}); remove it, or use "
        "launch.nproc_per_node of the run for its ranks",
        config.schedule.gpus_per_run_place, machine.gpus.empty() ? WhyNoGpu() : "device: cpu"));
  }
  sweep.slots = std::min<int64_t>(config.schedule.max_parallel.value_or(CountSlots(needs, machine)),
                                  std::ssize(sweep.runs));
  return sweep;
}

}  // namespace hearth
