// The time of whole training steps, through the Trainer itself ("hearth bench step").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/planner.h"
#include "runtime/train/run_setup.h"
#include "runtime/train/speed_of_light.h"
#include "runtime/train/summary.h"

namespace hearth {

struct StepBenchOptions {
  int64_t steps = 6;  // that are measured
  int64_t warmup_steps = 2;
};

// Of rank 0, in bytes. Predicted by the plan; measured: what its device has handed out. Host memory
// that ranks share is in neither.
struct StepBenchMemory {
  int64_t device_predicted = 0;
  int64_t device_measured = 0;
  int64_t host_predicted = 0;
  int64_t host_measured = 0;
  std::optional<int64_t> device_used;    // by all that uses the device, where it says
  MemoryUse arenas;                      // what the steps used of them
  int64_t process_predicted = 0;         // of the device: arenas and what lies outside them
  std::optional<int64_t> process_used;   // by this process, where the device says
  std::optional<int64_t> device_budget;  // nullopt: not known
};

// Between rank 0's arenas on the device and on the host, in a step.
struct StepBenchLink {
  LinkBytes predicted;  // by the schedule
  LinkBytes measured;   // by the copies of the last step, small words included
};

struct StepBenchResult {
  std::string device;
  int ranks = 1;
  int devices = 1;  // that they compute on
  std::string model;
  int64_t parameters = 0;
  Plan plan;
  std::string_view compute_dtype;
  std::string_view fp8_recipe;  // "none" without FP8
  std::string_view lm_head;     // the type of the head's matmuls
  AttentionReport attention;
  bool deterministic = true;
  StepBenchMemory memory;
  StepBenchLink link;
  std::vector<std::string> traces;        // the files of rank 0's
  KeyValues chosen;                       // what `auto` came to mean, by key
  std::optional<StepEstimate> predicted;  // where the hardware is known
  double loss = 0;                        // of the last step, per target; finite
  double seconds_to_start = 0;            // before the first step
  StartSeconds start;                     // of that, the parts that a large model makes long
  std::vector<double> step_seconds;       // of the measured steps, in order; none that is traced
  // Of the measured steps.
  double median_seconds = 0;
  double min_seconds = 0;
  double max_seconds = 0;
  double tokens_per_second = 0;          // over all ranks, at the median
  std::optional<Efficiency> efficiency;  // at that speed, where the device's peak is known
};

// Trains warmup_steps + steps on uniformly random tokens and keeps nothing but the timelines of
// logging.trace_steps, which count from the first warm-up step and are not measured. A step's time
// goes from the end of the step before to its own end on the device. `resolved`'s data, length,
// learning rate schedule, evaluation, checkpoints and other logs are not used. Every rank makes the
// same call; rank 0's result counts. Random weights are repeated ones. DeviceError when a loss is
// not finite; ConfigError when a step to trace is none of these, or no other one is left to
// measure.
StepBenchResult BenchStep(const ResolvedConfig& resolved, const RunEnvironment& environment,
                          const StepBenchOptions& options);

}  // namespace hearth
