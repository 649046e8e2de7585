#include "runtime/plan/rough_clock.h"

#include <array>

#include "runtime/plan/schedule_builder.h"
#include "runtime/plan/simulation.h"

namespace hearth {

namespace {

// Cut models have a beginning, an end and something between them.
constexpr std::array<int64_t, 2> kRoughLayers = {4, 6};
constexpr std::array<int64_t, 2> kFineLayers = {16, 24};
// As many groups of micro-batches, and one more.
constexpr int64_t kFewGroups = 2;
constexpr int64_t kRoughlyTogether = 8;
constexpr int64_t kFinelyTogether = 16;

// Each micro-batch for `times` as many.
double SimulatedSeconds(const Plan& plan, const ModelSpec& spec, const HardwareProfile& hardware,
                        double times = 1) {
  // Not checked, which takes as long as to make it: what is run is.
  const Schedule schedule = ScheduleBuilder(Phase::kTrain, plan, spec, 0).Build();
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

// None where the model has no more layers than both.
std::vector<ModelSpec> Cut(const ModelSpec& spec, const std::array<int64_t, 2>& numbers) {
  if (spec.config.num_layers <= numbers[0] + numbers[1]) return {};
  std::vector<ModelSpec> cut;
  for (int64_t layers : numbers) {
    ModelConfig config = spec.config;
    config.num_layers = layers;
    cut.push_back(BuildModelSpec(config));
  }
  return cut;
}

}  // namespace

RoughClock::RoughClock(const ModelSpec& spec, const HardwareProfile& hardware)
    : spec_(spec),
      hardware_(hardware),
      rough_{.cut = Cut(spec, kRoughLayers), .micro_batches_together = kRoughlyTogether},
      fine_{.cut = Cut(spec, kFineLayers), .micro_batches_together = kFinelyTogether} {}

double RoughClock::OfLayers(const Plan& plan, const ModelSpec& spec,
                            int64_t micro_batches_together) const {
  Plan cut = plan;
  cut.recompute.resize(static_cast<size_t>(spec.config.num_layers), plan.recompute.front());
  // Which are spread evenly.
  std::erase_if(cut.optimizer_of, [&](const auto& each) {
    return each.first > spec.block_unit(static_cast<int>(spec.config.num_layers) - 1);
  });
  const int64_t group = plan.micro_batches_per_group;
  if (group >= plan.micro_batches && plan.micro_batches > micro_batches_together) {
    cut.micro_batches = cut.micro_batches_per_group = micro_batches_together;
    return SimulatedSeconds(
        cut, spec, hardware_,
        static_cast<double>(plan.micro_batches) / static_cast<double>(micro_batches_together));
  }
  // Of either as many in the last group as there are.
  const int64_t few = kFewGroups * group + plan.micro_batches % group, more = few + group;
  if (plan.micro_batches <= more) return SimulatedSeconds(cut, spec, hardware_);
  cut.micro_batches = few;
  const double fewer = SimulatedSeconds(cut, spec, hardware_);
  cut.micro_batches = more;
  return Line(static_cast<double>(few), fewer, static_cast<double>(more),
              SimulatedSeconds(cut, spec, hardware_), static_cast<double>(plan.micro_batches));
}

double RoughClock::Seconds(const Plan& plan, const Size& size) const {
  if (size.cut.empty()) return OfLayers(plan, spec_, size.micro_batches_together);
  const auto layers = [](const ModelSpec& spec) {
    return static_cast<double>(spec.config.num_layers);
  };
  return Line(layers(size.cut[0]), OfLayers(plan, size.cut[0], size.micro_batches_together),
              layers(size.cut[1]), OfLayers(plan, size.cut[1], size.micro_batches_together),
              layers(spec_));
}

double RoughClock::StepSeconds(const Plan& plan) const { return Seconds(plan, fine_); }
double RoughClock::RoughSeconds(const Plan& plan) const { return Seconds(plan, rough_); }

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
