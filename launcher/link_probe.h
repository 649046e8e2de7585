// What `hearth probe` does: finds out, by processes that may hang, crash or move wrong data, how
// the ranks of this host can exchange.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "launcher/running_command.h"
#include "runtime/config/run_config.h"
#include "runtime/plan/link_table.h"

namespace hearth {

// Ranks of one process each that try some ways one after the other. A stage is a way's name, a
// colon and what it does: "all", every collective of all ranks; of two ranks "0", "1" or "both",
// who sends.
struct LinkJob {
  std::vector<int> places;  // by rank: its number among the ranks of a run here
  std::vector<std::string> stages;
};
// Runs it. The first line of its output that begins with '{' names the devices, each further one is
// the result of the next stage.
using LinkJobRunner = std::function<CommandEnd(const LinkJob& job)>;

inline constexpr int kMostLinkedRanks = 256;  // whose links are looked at

struct LinkProbeOptions {
  int ranks = 2;
  std::vector<std::string> ways;
  bool pairs = true;  // every pair and direction, before all ranks together
  std::function<void(const std::string& line)> progress;  // optional
};

// The stage that a job ends in is blamed and the others are tried by another job: nothing that a
// stage does ends the probe. A way with a problem between two ranks is not tried with all. Of
// `machine` the devices are filled in; none where no job told them.
LinkTable ProbeLinks(const LinkProbeOptions& options, const LinkJobRunner& run);

// Starts `hearth probe --as-rank` under mpirun on ranks of `device`; killed when it has said
// nothing for so long.
CommandEnd RunLinkJob(const LinkJob& job, DeviceKind device, std::chrono::milliseconds silence);

// One rank of such a job.
struct LinkRankOptions {
  LinkJob job;
  DeviceKind device = DeviceKind::kAuto;
  std::chrono::milliseconds timeout{10'000};  // of a collective
};
int RunLinkRank(const LinkRankOptions& options);

// Probes the ranks of a run on this host: ProbeLinks with RunLinkJob. IoError when no rank could be
// started.
struct HostProbeOptions {
  DeviceKind device = DeviceKind::kAuto;
  int ranks = 2;
  bool pairs = true;
  std::chrono::milliseconds silence{60'000};
  std::function<void(const std::string& line)> progress;
};
LinkTable ProbeThisHost(const HostProbeOptions& options);

// For people: a line for each direction, figure and problem, and what `auto` will choose.
std::string LinkTableForPeople(const LinkTable& table, const std::vector<WayRule>& rules);

}  // namespace hearth
