#include "runtime/plan/step_estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "runtime/config/yaml_document.h"
#include "runtime/plan/cost_model.h"
#include "runtime/plan/simulation.h"

namespace hearth {

namespace {

// In the order of StreamId.
constexpr std::array<std::string_view, kStreamCount> kWork = {
    "compute",      "collectives",        "transfers to the device",  "transfers to the host",
    "block inputs", "the host optimizer", "the network between boxes"};

std::string Milliseconds(double seconds) {
  return seconds < 0.01 ? fmt::format("{:.3f} ms", seconds * 1e3)
                        : fmt::format("{:.1f} ms", seconds * 1e3);
}

}  // namespace

StepEstimate EstimateStep(const Plan& plan, const ModelSpec& spec,
                          const HardwareProfile& hardware) {
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  const SimulatedStep step = Simulate(schedule, PriceTasks(schedule, plan, spec, hardware));
  StepEstimate estimate{.hardware = hardware.name,
                        .seconds = step.seconds,
                        .busy = step.busy,
                        .critical = step.critical};
  estimate.tokens_per_second =
      static_cast<double>(plan.global_batch_size * plan.sequence_len) / step.seconds;
  const LinkBytes link = SumLinkBytes(schedule);
  estimate.to_device_bytes = link.to_device;
  estimate.to_host_bytes = link.to_host;
  return estimate;
}

std::string WarnOfSlowBoxes(const Plan& plan, const Plan& one_box, const ModelSpec& spec,
                            const HardwareProfile& hardware) {
  const double together = EstimateStep(plan, spec, hardware).tokens_per_second;
  const double alone = EstimateStep(one_box, spec, hardware).tokens_per_second;
  if (together >= alone) return "";
  return fmt::format(
      "{} boxes are expected to be slower than one of them alone: {:.0f} tokens per second, not "
      "{:.0f}, with {} GB/s between them (box_gbps of the hardware file); use one, a larger "
      "global_batch_size, or a faster network\n",
      plan.boxes, together, alone, hardware.box_gbps);
}

std::string DescribeEstimate(const StepEstimate& estimate) {
  const auto most = std::max_element(estimate.critical.begin(), estimate.critical.end());
  std::string text = fmt::format(
      "Predicted on {}: a step of {}, {:.0f} tokens per second; bound by {} ({:.0f} % of the "
      "step).\n",
      estimate.hardware, Milliseconds(estimate.seconds), estimate.tokens_per_second,
      kWork[static_cast<size_t>(most - estimate.critical.begin())], 100 * *most / estimate.seconds);
  std::string busy;
  for (size_t stream = 0; stream < kWork.size(); ++stream) {
    if (estimate.busy[stream] <= 0) continue;
    busy += fmt::format("{}{} {} busy", busy.empty() ? "" : "; ", kWork[stream],
                        Milliseconds(estimate.busy[stream]));
    if (estimate.critical[stream] <= 0) continue;
    busy += fmt::format(", {} of the longest chain", Milliseconds(estimate.critical[stream]));
  }
  text += fmt::format("Of it {}.\n", busy);
  if (estimate.to_device_bytes + estimate.to_host_bytes > 0) {
    text += fmt::format("Over the host link {:.2f} GB to the device and {:.2f} GB to the host.\n",
                        static_cast<double>(estimate.to_device_bytes) / 1e9,
                        static_cast<double>(estimate.to_host_bytes) / 1e9);
  }
  return text;
}

std::string EstimateYaml(const StepEstimate& estimate) {
  std::string text = fmt::format(
      "predicted:  # times in seconds\n  hardware: {}\n  step: {:.6g}\n  tokens_per_second: "
      "{:.6g}\n",
      QuoteYaml(estimate.hardware), estimate.seconds, estimate.tokens_per_second);
  for (size_t stream = 0; stream < estimate.busy.size(); ++stream) {
    text += fmt::format("  {}: {{busy: {:.6g}, bounds_step: {:.6g}}}\n",
                        Name(static_cast<StreamId>(stream)), estimate.busy[stream],
                        estimate.critical[stream]);
  }
  return text + fmt::format("  to_device_bytes: {}\n  to_host_bytes: {}\n",
                            estimate.to_device_bytes, estimate.to_host_bytes);
}

}  // namespace hearth
