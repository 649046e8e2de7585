// A run's part of a sweep's folder: what is written there before it starts and read there when it
// has ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/process.h"
#include "launcher/sweep_log.h"
#include "launcher/sweep_outcome.h"
#include "launcher/sweep_packing.h"
#include "launcher/sweep_plan.h"

namespace hearth {

struct KnownRun {
  std::optional<RunOutcome> outcome;  // with the sweep's metric
  // Read where it is needed: of runs without an outcome, and of all where early stopping compares.
  MetricLog log;
};

// What the folder says about the run. Changes nothing.
KnownRun LookAtRun(const PlannedRun& run, const SweepConfig& sweep);

std::optional<double> LastValue(const MetricLog& log);

// Whether the run has saved its last step.
bool HasLastCheckpoint(const PlannedRun& run);

// Makes the folder, with the run's configuration in run.yaml. Returns the size of output.txt, to
// which the run will append. IoError.
int64_t PrepareFolder(const PlannedRun& run);

// The last line of output.txt behind `begin`, as one line for a table.
std::string LastWords(const PlannedRun& run, int64_t begin);

// `hearth train` on run.yaml, which goes on from the run's own last checkpoint where it has one.
ProcessOptions TrainProcess(const PlannedRun& run, const Seat& seat,
                            std::vector<std::string> environment);

// Ids of runs in the sweep's folder that are none of the plan's, sorted.
std::vector<std::string> FindRemovedRuns(const SweepPlan& plan);

}  // namespace hearth
