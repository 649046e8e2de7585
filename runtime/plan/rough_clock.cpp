#include "runtime/plan/rough_clock.h"

#include "runtime/plan/simulation.h"

namespace hearth {

namespace {

// Cut models have a beginning, an end and something between them.
constexpr int64_t kFewLayers = 4;
constexpr int64_t kMoreLayers = 6;
// As many groups of micro-batches, and one more.
constexpr int64_t kFewGroups = 2;
// Where all of them pass a layer together, as many stand for them.
constexpr int64_t kMicroBatchesTogether = 8;

// Each micro-batch for `times` as many.
double SimulatedSeconds(const Plan& plan, const ModelSpec& spec, const HardwareProfile& hardware,
                        double times = 1) {
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  std::vector<TaskPrice> prices = PriceTasks(schedule, plan, spec, hardware);
  for (const Task& task : schedule.tasks) {
    // Collectives are once per step and unit, but where ranks are added first.
    const bool repeats =
        task.micro_batch >= 0 && (task.stream != StreamId::kComm ||
                                  plan.numeric.reduction_order == ReductionOrder::kRankThenMicro);
    if (repeats) prices[static_cast<size_t>(task.id)].seconds *= times;
  }
  return Simulate(schedule, prices).seconds;
}

// The value at `at` of the line through (x0, y0) and (x1, y1).
double Line(double x0, double y0, double x1, double y1, double at) {
  return y1 + (at - x1) * (y1 - y0) / (x1 - x0);
}

}  // namespace

RoughClock::RoughClock(const ModelSpec& spec, const HardwareProfile& hardware)
    : spec_(spec), hardware_(hardware) {
  if (spec.config.num_layers <= kMoreLayers) return;
  for (int64_t layers : {kFewLayers, kMoreLayers}) {
    ModelConfig config = spec.config;
    config.num_layers = layers;
    cut_.push_back(BuildModelSpec(config));
  }
}

double RoughClock::OfLayers(const Plan& plan, const ModelSpec& spec) const {
  Plan cut = plan;
  cut.recompute.resize(static_cast<size_t>(spec.config.num_layers), plan.recompute.front());
  const int64_t group = plan.micro_batches_per_group;
  if (group >= plan.micro_batches && plan.micro_batches > kMicroBatchesTogether) {
    cut.micro_batches = cut.micro_batches_per_group = kMicroBatchesTogether;
    return SimulatedSeconds(cut, spec, hardware_,
                            static_cast<double>(plan.micro_batches) / kMicroBatchesTogether);
  }
  const int64_t few = kFewGroups * group, more = few + group;
  if (plan.micro_batches <= more) return SimulatedSeconds(cut, spec, hardware_);
  cut.micro_batches = few;
  const double fewer = SimulatedSeconds(cut, spec, hardware_);
  cut.micro_batches = more;
  return Line(static_cast<double>(few), fewer, static_cast<double>(more),
              SimulatedSeconds(cut, spec, hardware_), static_cast<double>(plan.micro_batches));
}

double RoughClock::StepSeconds(const Plan& plan) const {
  if (cut_.empty()) return OfLayers(plan, spec_);
  return Line(kFewLayers, OfLayers(plan, cut_[0]), kMoreLayers, OfLayers(plan, cut_[1]),
              static_cast<double>(spec_.config.num_layers));
}

double RoughClock::ComputeSeconds(const Plan& plan) const {
  double once = HeadSeconds(plan, spec_, true, hardware_);
  const double block = BlockForwardSeconds(plan, spec_.config, hardware_) +
                       BlockBackwardSeconds(plan, spec_.config, hardware_);
  for (const RecomputeSet& recompute : plan.recompute) {
    once += block;
    for (Segment segment : recompute.segments) {
      once += SegmentSeconds(segment, plan, spec_.config, hardware_);
    }
  }
  return static_cast<double>(plan.micro_batches) * once;
}

}  // namespace hearth
