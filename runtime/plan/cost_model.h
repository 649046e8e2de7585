// Seconds of a schedule's tasks on a hardware profile. Pure.
#pragma once

#include <array>
#include <vector>

#include "runtime/plan/hardware_profile.h"
#include "runtime/plan/schedule.h"

namespace hearth {

// What tasks of different streams share.
enum class SharedResource : uint8_t {
  kHostLink,      // both directions of the link between device and host
  kToDeviceLink,  // each direction of it, which transfers of two streams may want
  kToHostLink,
  kHostMemory,  // of transfers and of the host optimizer
};
constexpr int kSharedResourceCount = 4;

struct TaskPrice {
  double seconds = 0;  // alone
  // The share of each resource that the task takes while it runs at full speed; in [0, 1] where the
  // resource is no narrower than the task's own rate.
  std::array<double, kSharedResourceCount> use{};
};

struct MatmulSize {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  DType type = DType::kBF16;  // of the operands
  DType out = DType::kBF16;   // of the result
  bool accumulates = false;   // the result is read as well
};

// Single ops. A matmul's time is the root of the sum of the squares of its time to compute and its
// time to move (neither hides the other altogether), besides a fixed part.
double MatmulSeconds(const MatmulSize& size, const HardwareProfile& hardware);
// One matmul over the causal half of `tokens` x `sequence_len` scores counts once: 2 forward, 5
// backward. Beside that, as above, the longest thread block: it passes over a whole sequence,
// backward once for each query head of a group.
double AttentionSeconds(const ModelConfig& config, const Precision& precision, int64_t tokens,
                        int64_t sequence_len, bool backward, const HardwareProfile& hardware);
// `bytes` by the last of so many kernels, which wait for each other.
double ElementwiseSeconds(double bytes, const HardwareProfile& hardware, int kernels = 1);

// One block's segment forward; a whole block forward; backward; over one micro-batch.
double SegmentSeconds(Segment segment, const Plan& plan, const ModelConfig& config,
                      const HardwareProfile& hardware);
double BlockForwardSeconds(const Plan& plan, const ModelConfig& config,
                           const HardwareProfile& hardware);
double BlockBackwardSeconds(const Plan& plan, const ModelConfig& config,
                            const HardwareProfile& hardware);
// Final norm, logits and loss, with `training` their backward.
double HeadSeconds(const Plan& plan, const ModelSpec& spec, bool training,
                   const HardwareProfile& hardware);

// By task of the schedule.
std::vector<TaskPrice> PriceTasks(const Schedule& schedule, const Plan& plan, const ModelSpec& spec,
                                  const HardwareProfile& hardware);

}  // namespace hearth
