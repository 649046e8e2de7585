// How many ranks a command is about, and on which hosts.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/command.h"
#include "launcher/hostfile.h"
#include "runtime/config/run_config.h"
#include "runtime/plan/plan.h"

namespace hearth {

inline constexpr int64_t kMostRanks = 4096;  // of a run

struct Placement {
  int ranks = 1;
  std::vector<HostEntry> hosts;  // empty: this host alone

  // Filled host by host. One box where hosts have different numbers, which their ranks refuse
  // unless the hosts are one machine.
  RankGrid Grid() const;
};

// -n N
void AddRankCountOption(boost::program_options::options_description* options);

// From -n where it was given, else from the configuration, else from the hostfile's slots, else one
// for each GPU of this host, or 1 on the CPU.
// ConfigError for an impossible number or a wrong hostfile.
Placement PlaceRanks(const Invocation& invocation, const RunConfig& config);

}  // namespace hearth
