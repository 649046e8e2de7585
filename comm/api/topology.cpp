#include "comm/api/topology.h"

#include <algorithm>

#include "comm/api/gather_texts.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

std::string NameOf(const std::string& host) { return host.substr(0, host.find('\n')); }

}  // namespace

Topology TopologyOf(const std::vector<std::string>& hosts) {
  CHECK(!hosts.empty(), "no ranks");
  std::vector<std::string> names;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    if (rank > 0 && hosts[rank] == hosts[rank - 1]) continue;
    if (std::find(names.begin(), names.end(), hosts[rank]) != names.end()) {
      throw ConfigError(
          Format("command line: error: rank {} is on {} again, behind ranks of other hosts; start "
                 "the ranks host by host (mpirun --map-by slot, srun --distribution=block)",
                 rank, NameOf(hosts[rank])));
    }
    names.push_back(hosts[rank]);
  }
  const auto count = [&](const std::string& name) {
    return std::count(hosts.begin(), hosts.end(), name);
  };
  for (const std::string& name : names) {
    if (count(name) == count(names.front())) continue;
    throw ConfigError(
        Format("command line: error: {} ranks on {}, but {} on {}; boxes repeat each other, so "
               "give each as many (slots= in the hostfile, -n, or Slurm's --ntasks-per-node)",
               count(names.front()), NameOf(names.front()), count(name), NameOf(name)));
  }
  const auto boxes = static_cast<int>(names.size());
  return {.boxes = boxes, .ranks_per_box = static_cast<int>(hosts.size()) / boxes};
}

Topology FindTopology(Bootstrap& bootstrap, std::string_view host) {
  return TopologyOf(GatherTexts(bootstrap, host));
}

}  // namespace hearth
