#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"
#include "runtime/bench/host_adamw_bench.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("threads", po::value<int>()->default_value(0),
                         "that share the work; 0: one per processor")(
      "elements", po::value<int64_t>()->default_value(HostAdamwBenchOptions{}.elements),
      "parameters to update")("repetitions",
                              po::value<int>()->default_value(HostAdamwBenchOptions{}.repetitions),
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

int Run(const Invocation& invocation) {
  if (invocation.file != "cpu") {
    throw ConfigError(
        fmt::format("command line: error: no bench '{}' in this version; write hearth bench cpu",
                    invocation.file));
  }
  const int threads = invocation.Get<int>("threads");
  const HostAdamwBenchOptions options{.threads = threads > 0 ? threads : DefaultThreads(),
                                      .elements = invocation.Get<int64_t>("elements"),
                                      .repetitions = invocation.Get<int>("repetitions")};
  if (threads < 0 || options.elements < 1 || options.repetitions < 1) {
    throw ConfigError("command line: error: --threads, --elements and --repetitions are counts");
  }
  const auto backend = MakeBackend("cpu", {.threads = 1});
  const HostAdamwBenchResult result = BenchHostAdamw(backend->device(), options);
  PrintTable(result);
  PrintJson(result);
  return kExitDone;
}

}  // namespace

Command MakeBenchCommand() {
  return {.name = "bench",
          .file = "cpu",
          .summary = "measure the host optimizer against this machine's memory bandwidth",
          .details = "A table for people, then one line of JSON.",
          .takes_run_keys = false,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
