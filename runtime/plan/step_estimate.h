// What a step is expected to take, before it is run. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "runtime/plan/hardware_profile.h"
#include "runtime/plan/schedule.h"

namespace hearth {

struct StepEstimate {
  std::string hardware;                         // its name
  double seconds = 0;                           // of a step in the middle of a run
  double tokens_per_second = 0;                 // of all ranks
  std::array<double, kStreamCount> busy{};      // seconds, by stream
  std::array<double, kStreamCount> critical{};  // of `seconds`, by what bounds it
  int64_t to_device_bytes = 0;                  // over the host link
  int64_t to_host_bytes = 0;

  double exposed_seconds() const {
    return seconds - critical[static_cast<size_t>(StreamId::kCompute)];
  }
};

// Simulates the training schedule of rank 0, which has as much to do as any.
StepEstimate EstimateStep(const Plan& plan, const ModelSpec& spec, const HardwareProfile& hardware);

// A line where these boxes are expected to be slower than one of them alone, by its own plan; ""
// where they are not.
std::string WarnOfSlowBoxes(const Plan& plan, const Plan& one_box, const ModelSpec& spec,
                            const HardwareProfile& hardware);

// Two or three lines for people: step time, tokens per second, what bounds the step, how busy the
// streams are.
std::string DescribeEstimate(const StepEstimate& estimate);

// The same as a section of plan.yaml.
std::string EstimateYaml(const StepEstimate& estimate);

}  // namespace hearth
