#include "runtime/train/run_plan.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "kernels/api/workspace.h"
#include "runtime/plan/cost_model.h"
#include "runtime/train/hardware_choice.h"

namespace hearth {

namespace {

// A text that rank 0 has, for all.
std::string Shared(Bootstrap& bootstrap, const std::string& text) {
  return ToText(bootstrap.Broadcast(ToBytes(bootstrap.rank() == 0 ? text : ""), 0));
}

std::optional<HardwareProfile> SharedHardware(const RunEnvironment& environment) {
  std::string text;
  if (environment.bootstrap.rank() == 0) {
    const Device& device = environment.backend.device();
    const auto profile =
        HardwareOf(device.name(), device.kind() != DeviceType::kCpu, environment.installed_configs);
    if (profile) text = HardwareYaml(*profile);
  }
  text = Shared(environment.bootstrap, text);
  if (text.empty()) return std::nullopt;
  return ParseHardware(text, "rank 0");
}

std::optional<HostRates> SharedRates(const RunEnvironment& environment) {
  const std::string text = Shared(
      environment.bootstrap, environment.host_rates ? HostRatesText(*environment.host_rates) : "");
  if (text.empty()) return std::nullopt;
  return ParseHostRates(text, "rank 0");
}

// Of one [n, n] fp32 product, the fastest of a few.
double MatmulSecondsOf(KernelBackend& backend, int64_t n) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRepetitions = 5;
  Device& device = backend.device();
  const std::unique_ptr<Stream> stream = device.CreateStream("rate");
  const int64_t bytes = n * n * SizeOf(DType::kF32), workspace_bytes = GemmWorkspaceBytes();
  const Buffer all = device.Allocate(3 * bytes + workspace_bytes, MemoryKind::kDevice);
  const GemmArgs args{.a = all.View(0, DType::kF32, {n, n}),
                      .b = all.View(bytes, DType::kF32, {n, n}),
                      .out = all.View(2 * bytes, DType::kF32, {n, n}),
                      .workspace = all.View(3 * bytes, DType::kU8, {workspace_bytes})};
  backend.Zero(*stream, {.destination = all.View(0, DType::kU8, {3 * bytes})});
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    stream->Synchronize(std::chrono::seconds(60));
    const Clock::time_point begin = Clock::now();
    backend.Gemm(*stream, args);
    stream->Synchronize(std::chrono::seconds(60));
    fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return fastest;
}

}  // namespace

HardwareProfile AsMeasured(HardwareProfile profile, KernelBackend& backend) {
  if (profile.is_gpu || backend.device().kind() != DeviceType::kCpu) return profile;
  constexpr int64_t kSide = 256;
  constexpr double kMost = 4;  // others at work disturb a measurement this short
  const double expected = MatmulSeconds(
      {.m = kSide, .n = kSide, .k = kSide, .type = DType::kF32, .out = DType::kF32}, profile);
  const double faster = std::clamp(expected / MatmulSecondsOf(backend, kSide), 1 / kMost, kMost);
  for (double HardwareProfile::*rate :
       {&HardwareProfile::fp8_tflops, &HardwareProfile::bf16_tflops, &HardwareProfile::fp32_tflops,
        &HardwareProfile::elementwise_gbps}) {
    profile.*rate *= faster;
  }
  return profile;
}

DecidedPlan DecidePlan(const ResolvedConfig& resolved, const ModelSpec& spec,
                       const RunEnvironment& environment, const MemoryLimits& limits) {
  const RankGrid grid = environment.grid();
  // Not within the braces of `decided`: where it throws there, gcc 12 and 13 destroy `run` twice.
  std::optional<HardwareProfile> hardware = SharedHardware(environment);
  const std::optional<HostRates> rates = SharedRates(environment);
  DecidedPlan decided;
  if (hardware) {
    const HardwareProfile here =
        rates ? WithHost(*hardware, *rates, environment.bootstrap.local_world()) : *hardware;
    decided.run = ChoosePlan({resolved, spec, grid, limits, *hardware, rates ? &here : nullptr});
    decided.hardware = here;
  } else {
    decided.run = LeavePlan(resolved, spec, grid, limits);
  }
  Plan& plan = decided.run.plan;
  plan.communicator = environment.communicator.memory();
  if (environment.links) plan.communicator += environment.links->network.memory();
  plan.exchange = environment.exchange;
  plan.ranks_per_host = environment.bootstrap.local_world();
  if (environment.amend_plan) environment.amend_plan(plan);
  return decided;
}

}  // namespace hearth
