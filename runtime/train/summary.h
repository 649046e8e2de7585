// What a run tells a person when it starts and when it ends.
#pragma once

#include <optional>
#include <string>

#include "runtime/model/model_spec.h"
#include "runtime/plan/memory_budget.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/step_estimate.h"
#include "runtime/state/stores.h"
#include "runtime/telemetry/loss_curve.h"
#include "runtime/train/machine_memory.h"
#include "runtime/train/speed_of_light.h"

namespace hearth {

// "2 x NVIDIA H200"; "4 ranks on 2 x NVIDIA H200" where they share devices.
std::string DescribeDevices(int ranks, const std::string& device, int devices);

// Model, precision, batch, ranks, and the memory the plan predicts, by tier and pool.
std::string DescribeStart(const ModelSpec& spec, const Plan& plan, const std::string& devices,
                          int64_t total_steps);

struct EndOfRun {
  LossCurve curve;
  int terminal_columns = 0;  // 0: no terminal
  std::optional<double> eval_loss;
  std::optional<double> byte_pair_loss;  // of a table of token pairs on the same evaluation targets
  double tokens_per_second = 0;          // 0: no step was made
  std::optional<Efficiency> efficiency;  // at that speed
  MemoryLimits limits;
  CommunicatorMemory communicator;  // that it holds
  ProcessMemory process;            // of rank 0, at the end
  std::optional<StepEstimate> predicted;
  std::optional<double> step_seconds;  // measured
  std::string output_dir;
};

// Bytes of rank 0's arenas.
struct MemoryUse {
  int64_t predicted_device_bytes = 0;
  int64_t measured_device_bytes = 0;
  int64_t predicted_host_bytes = 0;
  int64_t measured_host_bytes = 0;
};
MemoryUse UseOf(const RankMemory& memory);

// How fast a run was; "" where it made no step.
std::string DescribeSpeed(const Precision& precision, double tokens_per_second,
                          const std::optional<Efficiency>& efficiency);

// The loss curve in characters, the losses, the speed, predicted and measured memory.
std::string DescribeEnd(const RankMemory& memory, const EndOfRun& end);

}  // namespace hearth
