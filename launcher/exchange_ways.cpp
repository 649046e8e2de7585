#include "launcher/exchange_ways.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "launcher/program_info.h"
#include "runtime/config/built_values.h"
#include "runtime/config/field_table.h"

namespace hearth {

std::vector<ExchangeWay> ExchangeWays(bool gpus) {
  if (!gpus) return {{.name = "mpi", .kind = "mpi"}};
  return {{.name = kPeersWay, .kind = "copy_engine"},
          {.name = kThroughHostWay, .kind = "copy_engine", .through_host = true},
          {.name = "nccl", .kind = "nccl"},
          {.name = "mpi", .kind = "mpi"}};
}

ExchangeWay FindWay(const std::string& name) {
  for (const ExchangeWay& way : ExchangeWays(true)) {
    if (way.name == name) return way;
  }
  throw ConfigError(fmt::format("command line: error: there is no way '{}' to exchange", name));
}

std::vector<std::string> AllowedWays(bool gpus) {
  const std::vector<std::string_view> built =
      BuiltValues(*FindField("comm.backend"), BuiltFeatures());
  std::vector<std::string> allowed;
  for (const ExchangeWay& way : ExchangeWays(gpus)) {
    // No list: everything is built.
    if (built.empty() || std::find(built.begin(), built.end(), way.kind) != built.end()) {
      allowed.push_back(way.name);
    }
  }
  return allowed;
}

std::unique_ptr<Communicator> MakeWayCommunicator(const ExchangeWay& way, Bootstrap& bootstrap,
                                                  KernelBackend& backend,
                                                  CommunicatorOptions options) {
  options.stage = way.through_host;
  options.peers_only = !way.through_host;
  return MakeCommunicator(way.kind, bootstrap, backend, options);
}

}  // namespace hearth
