#include "launcher/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options/value_semantic.hpp>
#include <string>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "launcher/device_choice.h"

namespace hearth {

void AddRankCountOption(boost::program_options::options_description* options) {
  options->add_options()(",n", boost::program_options::value<int64_t>()->value_name("N"),
                         "ranks in all; default: launch.nproc_per_node on every host, else the "
                         "hostfile's slots, else one per GPU, or 1 on the CPU");
}

RankGrid Placement::Grid() const {
  int left = ranks;
  int boxes = 0;
  bool equal = true;
  for (const HostEntry& host : hosts) {
    if (left == 0) break;
    ++boxes;
    equal &= std::min(left, host.slots) == std::min(ranks, hosts.front().slots);
    left -= std::min(left, host.slots);
  }
  return {ranks, equal && boxes > 0 ? boxes : 1};
}

Placement PlaceRanks(const Invocation& invocation, const RunConfig& config) {
  const LaunchSection& launch = config.launch;
  Placement placement;
  if (launch.hostfile) placement.hosts = ReadHostfile(*launch.hostfile);
  if (launch.nproc_per_node) {
    for (HostEntry& host : placement.hosts) {
      host.slots = Narrow<int>(std::min(*launch.nproc_per_node, kMostRanks + 1));
    }
  }
  const int64_t hosts = std::max<int64_t>(1, std::ssize(placement.hosts));

  int64_t ranks = 1;
  if (invocation.Has("-n")) {
    ranks = invocation.Get<int64_t>("-n");
  } else if (launch.nproc_per_node) {
    ranks = std::min(*launch.nproc_per_node, kMostRanks + 1) * hosts;
  } else if (!placement.hosts.empty()) {
    ranks = TotalSlots(placement.hosts);
  } else {
    ranks = DefaultRanksPerHost(config.device);
  }
  if (ranks < 1 || ranks > kMostRanks) {
    throw ConfigError(fmt::format("command line: error: {} ranks; give a number from 1 to {}",
                                  ranks, kMostRanks));
  }
  if (!placement.hosts.empty() && ranks > TotalSlots(placement.hosts)) {
    throw ConfigError(
        fmt::format("{}: error: {} ranks, but slots for {}; raise slots=, or start "
                    "fewer ranks (-n)",
                    *launch.hostfile, ranks, TotalSlots(placement.hosts)));
  }
  placement.ranks = Narrow<int>(ranks);
  return placement;
}

}  // namespace hearth
