#include <fmt/format.h>
#include <stdlib.h>

#include <boost/program_options/value_semantic.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/device_choice.h"
#include "launcher/host_rates_cache.h"
#include "launcher/link_probe.h"
#include "launcher/links_bench.h"
#include "launcher/rank_environment.h"
#include "launcher/run_check.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"
#include "runtime/bench/host_adamw_bench.h"
#include "runtime/bench/kernels_bench.h"
#include "runtime/bench/step_bench.h"
#include "runtime/telemetry/units.h"
#include "runtime/train/summary.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

constexpr int64_t kMostSteps = 1'000'000;

void AddOptions(po::options_description* options) {
  options->add_options()("threads", po::value<int>()->default_value(0),
                         "cpu: that share the work; 0: one per processor")(
      "elements", po::value<int64_t>()->default_value(HostAdamwBenchOptions{}.elements),
      "cpu: parameters to update")(
      "repetitions", po::value<int>()->default_value(HostAdamwBenchOptions{}.repetitions),
      "cpu, kernels, links: of which the median counts")(
      "steps", po::value<int64_t>()->default_value(StepBenchOptions{}.steps), "step: to measure")(
      "warmup", po::value<int64_t>()->default_value(StepBenchOptions{}.warmup_steps),
      "step: steps before those")("no-peer-access", po::bool_switch(),
                                  "step: as on a box whose GPUs cannot reach each other's memory")(
      ",n", po::value<int>()->default_value(0)->value_name("N"),
      "links: ranks to start; 0: one per GPU, 2 on the CPU");
}

void PrintTable(const HostAdamwBenchResult& result) {
  fmt::print("host AdamW: {} threads, {} elements, SIMD {}; triad {:.1f}, in place {:.1f} GB/s\n\n",
             result.threads, result.elements, result.simd_target, result.triad_gb_per_s,
             result.in_place_gb_per_s);
  fmt::print("{:40} {:>12} {:>10} {:>10} {:>10}\n", "state", "B/element", "ms", "GB/s", "of triad");
  for (const HostAdamwBenchCase& c : result.cases) {
    fmt::print("{:40} {:>12} {:>10.2f} {:>10.1f} {:>8.0f} %\n", c.state, c.bytes_per_element,
               c.milliseconds, c.gb_per_s, 100 * c.fraction_of_triad);
  }
}

void PrintJson(const HostAdamwBenchResult& result) {
  nlohmann::ordered_json json = {{"bench", "cpu"},
                                 {"threads", result.threads},
                                 {"elements", result.elements},
                                 {"repetitions", result.repetitions},
                                 {"simd_target", result.simd_target},
                                 {"triad_gb_per_s", result.triad_gb_per_s},
                                 {"in_place_gb_per_s", result.in_place_gb_per_s},
                                 {"cases", nlohmann::ordered_json::array()}};
  for (const HostAdamwBenchCase& c : result.cases) {
    json["cases"].push_back({{"state", c.state},
                             {"bytes_per_element", c.bytes_per_element},
                             {"milliseconds", c.milliseconds},
                             {"gb_per_s", c.gb_per_s},
                             {"fraction_of_triad", c.fraction_of_triad}});
  }
  fmt::print("\n{}\n", json.dump());
}

std::string Describe(const AttentionReport& attention) {
  if (attention.reason.empty()) return attention.provider;
  return fmt::format("{} ({})", attention.provider, attention.reason);
}

void PrintTable(const KernelsBenchResult& result) {
  fmt::print("{}, {}, {} sequences of {} tokens, {} micro-batches a step; {}\n", result.model,
             result.compute_dtype, result.micro_batch_size, result.sequence_len,
             result.micro_batches, result.device);
  fmt::print("copy {:.1f} GB/s, host link {:.1f} GB/s", result.copy_gb_per_s,
             result.host_link_gb_per_s);
  for (const KernelsBenchPeak& peak : result.peaks) {
    fmt::print("; {} {:.1f} TFLOP/s{}", peak.type, peak.tflops,
               peak.is_measured ? " (measured)" : "");
  }
  fmt::print("; attention: {}", Describe(result.attention));
  fmt::print("\n\n{:18} {:62} {:>6} {:>11} {:>11} {:>8} {:>9}\n", "op", "shape", "calls", "us",
             "floor us", "of floor", "ms/step");
  for (const KernelsBenchOp& op : result.ops) {
    fmt::print("{:18} {:62} {:>6} {:>11.1f} {:>11.1f} {:>6.0f} % {:>9.2f}\n", op.op, op.shape,
               op.calls, op.microseconds, op.floor_microseconds,
               100 * op.floor_microseconds / op.microseconds,
               static_cast<double>(op.calls) * op.microseconds / 1e3);
  }
  fmt::print("\na step, one op after the other: {:.2f} ms of {:.2f} ms floor, {:.0f} tokens/s\n",
             result.step_milliseconds, result.step_floor_milliseconds, result.tokens_per_second);
}

void PrintJson(const KernelsBenchResult& result) {
  nlohmann::ordered_json json = {{"bench", "kernels"},
                                 {"device", result.device},
                                 {"model", result.model},
                                 {"compute_dtype", result.compute_dtype},
                                 {"sequence_len", result.sequence_len},
                                 {"micro_batch_size", result.micro_batch_size},
                                 {"micro_batches", result.micro_batches},
                                 {"repetitions", result.repetitions},
                                 {"copy_gb_per_s", result.copy_gb_per_s},
                                 {"host_link_gb_per_s", result.host_link_gb_per_s},
                                 {"attention", result.attention.provider},
                                 {"attention_reason", result.attention.reason},
                                 {"peaks", nlohmann::ordered_json::object()},
                                 {"ops", nlohmann::ordered_json::array()},
                                 {"step_milliseconds", result.step_milliseconds},
                                 {"step_floor_milliseconds", result.step_floor_milliseconds},
                                 {"tokens_per_second", result.tokens_per_second}};
  for (const KernelsBenchPeak& peak : result.peaks) {
    json["peaks"][peak.type] = {{"tflops", peak.tflops}, {"is_measured", peak.is_measured}};
  }
  for (const KernelsBenchOp& op : result.ops) {
    json["ops"].push_back({{"op", op.op},
                           {"shape", op.shape},
                           {"calls", op.calls},
                           {"us", op.microseconds},
                           {"floor_us", op.floor_microseconds},
                           {"fraction_of_floor", op.floor_microseconds / op.microseconds},
                           {"is_compute_bound", op.is_compute_bound},
                           {"flops", op.flops},
                           {"bytes", op.bytes}});
  }
  fmt::print("\n{}\n", json.dump());
}

// The segments that run again in the backward, of the first block as of all.
std::vector<std::string_view> Recomputed(const Plan& plan) {
  std::vector<std::string_view> names;
  if (plan.recompute.empty()) return names;
  for (Segment segment : plan.recompute.front().segments) names.push_back(Name(segment));
  return names;
}

int64_t HeadChunks(const Plan& plan) {
  return DivUp(plan.tokens_per_micro_batch, plan.head_chunk_tokens);
}

void PrintRow(std::string_view name, const std::string& value) {
  fmt::print("  {:22} {}\n", name, value);
}

void PrintLink(const StepBenchLink& link) {
  const auto row = [](std::string_view name, int64_t predicted, int64_t measured) {
    constexpr double kGiga = 1e9;
    PrintRow(name, fmt::format("{:.3f} GB a step planned, {:.3f} GB measured",
                               static_cast<double>(predicted) / kGiga,
                               static_cast<double>(measured) / kGiga));
  };
  row("link to the device", link.predicted.to_device, link.measured.to_device);
  row("link to the host", link.predicted.to_host, link.measured.to_host);
}

std::string DescribeValues(const KeyValues& values) {
  std::string text;
  for (const auto& [key, value] : values) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key.substr(key.rfind('.') + 1), value);
  }
  return text;
}

void PrintTable(const StepBenchResult& result) {
  const Plan& plan = result.plan;
  const auto row = PrintRow;
  fmt::print("\n");
  row("device", DescribeDevices(result.ranks, result.device, result.devices));
  row("model", fmt::format("{}, {} parameters", result.model, result.parameters));
  row("precision", fmt::format("{}, recipe {}, LM head {}, fast accumulation {}",
                               result.compute_dtype, result.fp8_recipe, result.lm_head,
                               plan.precision.fast_accumulation ? "on" : "off"));
  row("tokens a step",
      fmt::format("{} sequences x {}, {} micro-batches of {} per rank", plan.global_batch_size,
                  plan.sequence_len, plan.micro_batches, plan.numeric.micro_batch_size));
  row("head", fmt::format("slabs of {} tokens, {} per micro-batch", plan.numeric.head_slab_tokens,
                          HeadChunks(plan)));
  row("recomputed", fmt::format("[{}]", fmt::join(Recomputed(plan), ", ")));
  row("ZeRO stage", fmt::format("{}", plan.zero_stage));
  row("attention", Describe(result.attention));
  row("deterministic", result.deterministic ? "yes" : "no");
  row("device memory",
      fmt::format("{} planned, {} used", FormatBytes(result.memory.device_predicted),
                  FormatBytes(result.memory.device_measured)));
  row("pinned host memory",
      fmt::format("{} planned, {} used", FormatBytes(result.memory.host_predicted),
                  FormatBytes(result.memory.host_measured)));
  PrintLink(result.link);
  for (const std::string& path : result.traces) row("timeline", path);
  row("ready after", fmt::format("{:.1f} s: memory {:.1f}, state {:.1f}, published {:.1f}, warm-up "
                                 "{:.1f}",
                                 result.seconds_to_start, result.start.memory, result.start.state,
                                 result.start.publish, result.start.warm_up));
  if (!result.chosen.empty()) row("chosen", DescribeValues(result.chosen));
  row("step time",
      fmt::format("{:.2f} ms median of {}, {:.2f} to {:.2f}", result.median_seconds * 1e3,
                  result.step_seconds.size(), result.min_seconds * 1e3, result.max_seconds * 1e3));
  row("speed", fmt::format("{:.0f} tokens/s", result.tokens_per_second));
  if (result.predicted) {
    row("predicted",
        fmt::format("{:.2f} ms, {:.0f} tokens/s on {}", result.predicted->seconds * 1e3,
                    result.predicted->tokens_per_second, result.predicted->hardware));
  }
  if (result.efficiency) {
    row("of the speed of light", fmt::format("{:.1f} %, MFU {:.1f} %", 100 * result.efficiency->sol,
                                             100 * result.efficiency->mfu));
  }
  row("loss of the last step", fmt::format("{:.4f}", result.loss));
}

nlohmann::ordered_json ToJson(const StepBenchMemory& memory) {
  nlohmann::ordered_json json = {{"device_bytes_predicted", memory.device_predicted},
                                 {"device_bytes_measured", memory.device_measured},
                                 {"device_bytes_used", nullptr},
                                 {"host_bytes_predicted", memory.host_predicted},
                                 {"host_bytes_measured", memory.host_measured},
                                 {"arena_bytes_predicted", memory.arenas.predicted_device_bytes},
                                 {"arena_bytes_measured", memory.arenas.measured_device_bytes},
                                 {"host_arena_bytes_predicted", memory.arenas.predicted_host_bytes},
                                 {"host_arena_bytes_measured", memory.arenas.measured_host_bytes},
                                 {"process_bytes_predicted", memory.process_predicted},
                                 {"process_bytes_measured", nullptr},
                                 {"gpu_budget_bytes", nullptr}};
  if (memory.device_used) json["device_bytes_used"] = *memory.device_used;
  if (memory.process_used) json["process_bytes_measured"] = *memory.process_used;
  if (memory.device_budget) json["gpu_budget_bytes"] = *memory.device_budget;
  return json;
}

void PrintJson(const StepBenchResult& result) {
  const Plan& plan = result.plan;
  std::vector<double> milliseconds;
  for (double seconds : result.step_seconds) milliseconds.push_back(seconds * 1e3);
  nlohmann::ordered_json json = {{"bench", "step"},
                                 {"device", result.device},
                                 {"ranks", result.ranks},
                                 {"devices", result.devices},
                                 {"model", result.model},
                                 {"parameters", result.parameters},
                                 {"compute_dtype", result.compute_dtype},
                                 {"fp8_recipe", result.fp8_recipe},
                                 {"fp8_fast_accumulation", plan.precision.fast_accumulation},
                                 {"lm_head", result.lm_head},
                                 {"sequence_len", plan.sequence_len},
                                 {"global_batch_size", plan.global_batch_size},
                                 {"micro_batch_size", plan.numeric.micro_batch_size},
                                 {"micro_batches", plan.micro_batches},
                                 {"head_slab_tokens", plan.numeric.head_slab_tokens},
                                 {"head_chunks", HeadChunks(plan)},
                                 {"recompute", Recomputed(plan)},
                                 {"zero_stage", plan.zero_stage},
                                 {"attention", result.attention.provider},
                                 {"attention_reason", result.attention.reason},
                                 {"deterministic", result.deterministic},
                                 {"steps", result.step_seconds.size()},
                                 {"step_ms", milliseconds},
                                 {"step_ms_median", result.median_seconds * 1e3},
                                 {"step_ms_min", result.min_seconds * 1e3},
                                 {"step_ms_max", result.max_seconds * 1e3},
                                 {"tokens_per_second", result.tokens_per_second},
                                 {"sol", nullptr},
                                 {"mfu", nullptr},
                                 {"loss", result.loss},
                                 {"to_device_bytes_predicted", result.link.predicted.to_device},
                                 {"to_device_bytes_measured", result.link.measured.to_device},
                                 {"to_host_bytes_predicted", result.link.predicted.to_host},
                                 {"to_host_bytes_measured", result.link.measured.to_host},
                                 {"traces", result.traces},
                                 {"predicted_step_ms", nullptr},
                                 {"predicted_on", nullptr},
                                 {"chosen", nlohmann::ordered_json::object()},
                                 {"seconds_to_start", result.seconds_to_start},
                                 {"seconds_to_start_of",
                                  {{"memory", result.start.memory},
                                   {"state", result.start.state},
                                   {"publish", result.start.publish},
                                   {"warm_up", result.start.warm_up}}}};
  if (result.efficiency) {
    json["sol"] = result.efficiency->sol;
    json["mfu"] = result.efficiency->mfu;
  }
  if (result.predicted) {
    json["predicted_step_ms"] = result.predicted->seconds * 1e3;
    json["predicted_on"] = result.predicted->hardware;
  }
  for (const auto& [key, value] : result.chosen) json["chosen"][key] = value;
  json.update(ToJson(result.memory));
  fmt::print("\n{}\n", json.dump());
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

void RefuseOptions(const Invocation& invocation, std::initializer_list<const char*> options,
                   std::string_view owner) {
  for (const char* option : options) {
    if (invocation.options[option].defaulted()) continue;
    const std::string_view dashes = option[0] == '-' ? "" : "--";
    FailUsage(fmt::format("{}{} belongs to hearth bench {}", dashes, option, owner));
  }
}

int BenchCpu(const Invocation& invocation) {
  RefuseOptions(invocation, {"steps", "warmup", "no-peer-access"}, "step");
  RefuseOptions(invocation, {"-n"}, "links");
  if (!invocation.second.empty() || !invocation.overrides.empty()) {
    FailUsage("hearth bench cpu takes no run and none of its keys");
  }
  const int threads = invocation.Get<int>("threads");
  const HostAdamwBenchOptions options{.threads = threads > 0 ? threads : DefaultThreads(),
                                      .elements = invocation.Get<int64_t>("elements"),
                                      .repetitions = invocation.Get<int>("repetitions")};
  if (threads < 0 || options.elements < 1 || options.repetitions < 1) {
    FailUsage("--threads, --elements and --repetitions are counts");
  }
  const auto backend = MakeBackend("cpu", {.threads = 1});
  const HostAdamwBenchResult result = BenchHostAdamw(backend->device(), options);
  PrintTable(result);
  PrintJson(result);
  return kExitDone;
}

// The run's data is not read: a file without any will do.
ResolvedConfig LoadRunWithoutData(const Invocation& invocation) {
  if (invocation.second.empty()) {
    FailUsage(fmt::format("RUN.yaml is missing; usage: hearth bench {} RUN.yaml [options]",
                          invocation.file));
  }
  std::vector<Override> overrides = {
      {.path = "data.datasets", .value = "[{path: none}]", .given = "data.datasets"}};
  overrides.insert(overrides.end(), invocation.overrides.begin(), invocation.overrides.end());
  return LoadRun(invocation.second, overrides);
}

int BenchKernels(const Invocation& invocation) {
  RefuseOptions(invocation, {"threads", "elements"}, "cpu");
  RefuseOptions(invocation, {"steps", "warmup", "no-peer-access"}, "step");
  RefuseOptions(invocation, {"-n"}, "links");
  KernelsBenchOptions options;
  options.timer.repetitions = invocation.Get<int>("repetitions");
  if (options.timer.repetitions < 1) FailUsage("--repetitions is a count");
  const ResolvedConfig resolved = LoadRunWithoutData(invocation);
  const SingleRank rank(resolved.config);
  const KernelsBenchResult result = BenchKernels(resolved, rank.environment(), options);
  PrintTable(result);
  PrintJson(result);
  return kExitDone;
}

int BenchStep(const Invocation& invocation) {
  RefuseOptions(invocation, {"threads", "elements"}, "cpu");
  RefuseOptions(invocation, {"repetitions"}, "cpu, kernels or links");
  RefuseOptions(invocation, {"-n"}, "links");
  const StepBenchOptions options{.steps = invocation.Get<int64_t>("steps"),
                                 .warmup_steps = invocation.Get<int64_t>("warmup")};
  for (int64_t count : {options.steps, options.warmup_steps}) {
    if (count >= 1 && count <= kMostSteps) continue;
    FailUsage(fmt::format("--steps is a count of at most {}, and so is --warmup", kMostSteps));
  }
  const ResolvedConfig resolved = LoadRunWithoutData(invocation);
  const bool no_peer_access = invocation.Get<bool>("no-peer-access");
  if (no_peer_access) setenv("NCCL_P2P_DISABLE", "1", 1);
  if (!ReadRankEnvironment().rank) MeasureHostFor(resolved.config.device);
  const SingleRank rank(resolved.config, {.no_peer_access = no_peer_access});
  RunEnvironment environment = rank.environment();
  environment.progress.enabled = environment.bootstrap.rank() == 0;
  const StepBenchResult result = BenchStep(resolved, environment, options);
  if (environment.bootstrap.rank() != 0) return kExitDone;
  PrintTable(result);
  PrintJson(result);
  return kExitDone;
}

int BenchLinks(const Invocation& invocation) {
  RefuseOptions(invocation, {"threads", "elements"}, "cpu");
  RefuseOptions(invocation, {"steps", "warmup", "no-peer-access"}, "step");
  if (!invocation.second.empty()) FailUsage("hearth bench links takes no run");
  LinksBenchCommand command{.ranks = invocation.Get<int>("-n"),
                            .repetitions = invocation.Get<int>("repetitions")};
  if (command.ranks < 0 || command.ranks == 1 || command.ranks > kMostLinkedRanks ||
      command.repetitions < 1) {
    FailUsage(fmt::format("-n is 2 to {} ranks, --repetitions a count", kMostLinkedRanks));
  }
  for (const Override& override : invocation.overrides) {
    if (override.path != "device") {
      FailUsage(
          fmt::format("hearth bench links takes no key of a run but device: {}", override.given));
    }
    command.device = ReadDeviceKind(override.value);
  }
  return BenchLinksCommand(command);
}

int Run(const Invocation& invocation) {
  if (invocation.file == "links") return BenchLinks(invocation);
  if (invocation.file == "cpu") return BenchCpu(invocation);
  if (invocation.file == "kernels") return BenchKernels(invocation);
  if (invocation.file == "step") return BenchStep(invocation);
  FailUsage(
      fmt::format("no bench '{}' in this version; write hearth bench cpu, hearth bench "
                  "links, hearth bench kernels RUN.yaml or hearth bench step RUN.yaml",
                  invocation.file));
}

}  // namespace

Command MakeBenchCommand() {
  return {
      .name = "bench",
      .file = "cpu|kernels|links|step",
      .second = "RUN.yaml",
      .summary = "measure the host optimizer, each op of a step, links, or whole steps",
      .details =
          "cpu: the host optimizer against this machine's memory bandwidth.\n"
          "kernels: every op of a training step of RUN.yaml at its real size, on the run's\n"
          "device, against the least time that its operations and bytes could take.\n"
          "links: all-gathers, reduce-scatters and a small all-reduce between ranks on this host,\n"
          "by every way there is, beside bare copies, and by how much a matmul takes longer\n"
          "beside them; hearth probe looks at each pair.\n"
          "step: whole steps of RUN.yaml, as hearth train makes them, on random tokens; nothing\n"
          "is evaluated or saved, and the run's data, length, schedule of the learning rate,\n"
          "evaluation, checkpoints and logs do not matter, but for --trace-steps, which are not\n"
          "measured and count from the first to warm up; a loss that is not finite ends\n"
          "it. Link: what is copied between device and host memory, beside what the plan says.\n"
          "Several ranks: mpirun -n N hearth bench step RUN.yaml.\n"
          "A table for people, then one line of JSON.",
      .takes_run_keys = true,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
