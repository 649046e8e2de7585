#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/run_check.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"
#include "runtime/bench/host_adamw_bench.h"
#include "runtime/bench/kernels_bench.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("threads", po::value<int>()->default_value(0),
                         "cpu: that share the work; 0: one per processor")(
      "elements", po::value<int64_t>()->default_value(HostAdamwBenchOptions{}.elements),
      "cpu: parameters to update")(
      "repetitions", po::value<int>()->default_value(HostAdamwBenchOptions{}.repetitions),
      "of which the median counts");
}

void PrintTable(const HostAdamwBenchResult& result) {
  fmt::print("host AdamW: {} threads, {} elements, SIMD {}; triad {:.1f} GB/s\n\n", result.threads,
             result.elements, result.simd_target, result.triad_gb_per_s);
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

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

int BenchCpu(const Invocation& invocation) {
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

int BenchKernels(const Invocation& invocation) {
  if (invocation.second.empty()) {
    FailUsage("RUN.yaml is missing; usage: hearth bench kernels RUN.yaml [options]");
  }
  for (const char* option : {"threads", "elements"}) {
    if (!invocation.options[option].defaulted()) {
      FailUsage(fmt::format("--{} belongs to hearth bench cpu", option));
    }
  }
  KernelsBenchOptions options;
  options.timer.repetitions = invocation.Get<int>("repetitions");
  if (options.timer.repetitions < 1) FailUsage("--repetitions is a count");
  // The run's data is not read: a file without any will do.
  std::vector<Override> overrides = {
      {.path = "data.datasets", .value = "[{path: none}]", .given = "data.datasets"}};
  overrides.insert(overrides.end(), invocation.overrides.begin(), invocation.overrides.end());
  const ResolvedConfig resolved = LoadRun(invocation.second, overrides);
  const SingleRank rank(resolved.config.device);
  const KernelsBenchResult result = BenchKernels(resolved, rank.environment(), options);
  PrintTable(result);
  PrintJson(result);
  return kExitDone;
}

int Run(const Invocation& invocation) {
  if (invocation.file == "cpu") return BenchCpu(invocation);
  if (invocation.file == "kernels") return BenchKernels(invocation);
  FailUsage(
      fmt::format("no bench '{}' in this version; write hearth bench cpu or hearth bench "
                  "kernels RUN.yaml",
                  invocation.file));
}

}  // namespace

Command MakeBenchCommand() {
  return {.name = "bench",
          .file = "cpu|kernels",
          .second = "RUN.yaml",
          .summary = "measure the host optimizer, or each op of a run's step, against the machine",
          .details =
              "cpu: the host optimizer against this machine's memory bandwidth.\n"
              "kernels: every op of a training step of RUN.yaml at its real size, on the run's\n"
              "device, against the least time that its operations and bytes could take.\n"
              "A table for people, then one line of JSON.",
          .takes_run_keys = true,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
