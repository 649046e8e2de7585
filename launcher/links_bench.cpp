#include "launcher/links_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "kernels/core/error.h"
#include "launcher/device_choice.h"
#include "launcher/exchange_ways.h"
#include "launcher/own_ranks.h"
#include "launcher/rank_environment.h"
#include "launcher/supervisor.h"
#include "runtime/bench/links_bench.h"

namespace hearth {

namespace {

// About a millisecond each.
constexpr int64_t kGpuMatmulSize = 8192;
constexpr int64_t kCpuMatmulSize = 256;

LinksBenchOptions MakeOptions(const LinksBenchCommand& command, Bootstrap& bootstrap,
                              KernelBackend& backend) {
  const bool gpus = backend.device().kind() == DeviceType::kCuda;
  LinksBenchOptions options{.ways = {},
                            .repetitions = command.repetitions,
                            .matmul_size = gpus ? kGpuMatmulSize : kCpuMatmulSize};
  if (!gpus) options.bytes.pop_back();
  for (const ExchangeWay& way : ExchangeWays(gpus)) {
    if (way.kind == "copy_engine") {
      options.ways.push_back(
          {.name = way.through_host ? "bare copy, host" : "bare copy",
           .make_bare_copies = [&bootstrap, &backend, way](const TensorView& slab) {
             return MakeBareCopies(bootstrap, backend, slab, way.through_host);
           }});
    }
    options.ways.push_back({.name = way.name, .make_communicator = [&bootstrap, &backend, way] {
                              return MakeWayCommunicator(way, bootstrap, backend, {});
                            }});
  }
  return options;
}

int BenchAsRank(const LinksBenchCommand& command) {
  PrepareForGpus();
  const auto bootstrap = MakeMpiBootstrap({});
  if (bootstrap->world() < 2) {
    throw ConfigError("command line: error: one rank has no links; give -n 2 or more");
  }
  const auto backend =
      MakeRankBackend({.device = command.device, .local_rank = bootstrap->local_rank()});
  const LinksBenchResult result =
      BenchLinks(*bootstrap, *backend, MakeOptions(command, *bootstrap, *backend));
  if (bootstrap->rank() == 0) fmt::print("{}", ToText(result));
  return kExitDone;
}

}  // namespace

int BenchLinksCommand(const LinksBenchCommand& command) {
  if (ReadRankEnvironment().rank) return BenchAsRank(command);
  const int ranks =
      command.ranks > 0 ? command.ranks : std::max(2, DefaultRanksPerHost(command.device));
  const CommandEnd end = RunOwnRanks(
      {.ranks = ranks,
       .arguments = {"bench", "links", "--device", std::string(EnumName(command.device)),
                     "--repetitions", fmt::format("{}", command.repetitions)},
       .silence = command.silence});
  if (!end.started) throw IoError(end.output);
  fmt::print("{}", end.output);
  if (end.Succeeded()) return kExitDone;
  if (end.timed_out) {
    throw CommError(
        fmt::format("the ranks said nothing for {} s and were ended; hearth probe finds the way "
                    "that hangs",
                    command.silence.count() / 1000));
  }
  return end.exit_code > 0 && end.exit_code <= kExitRankLost ? end.exit_code : kExitFailed;
}

}  // namespace hearth
