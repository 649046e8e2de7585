#include <fmt/format.h>

#include <algorithm>

#include "launcher/doctor_checks.h"
#include "launcher/exchange_ways.h"

namespace hearth {

namespace {

// The slowest direction between peers; 0 where the probe looked at all ranks together only.
double LeastSpeed(const LinkTable& table) {
  double least = 0;
  for (const LinkDirection& direction : table.directions) {
    if (direction.way != kPeersWay || direction.gb_per_s <= 0) continue;
    least = least == 0 ? direction.gb_per_s : std::min(least, direction.gb_per_s);
  }
  return least;
}

}  // namespace

void CheckPeerAccess(System& system, int gpus, Findings* findings) {
  Finding finding{.name = "peer access", .text = "", .remedy = ""};
  const auto warn = [&](const std::string& text, const char* remedy) {
    finding.health = Health::kWarning;
    finding.text = text;
    finding.remedy = remedy;
  };
  const std::optional<CachedLinks> links = system.Links(gpus);
  if (!links) {
    warn("CUDA did not answer", "sudo dmesg | grep -i nvrm; restart the machine");
  } else if (!links->table) {
    warn(fmt::format("not measured ({})", links->why_not), "hearth probe");
  } else {
    const std::vector<LinkProblem>& problems = links->table->problems;
    const auto problem =
        std::find_if(problems.begin(), problems.end(),
                     [](const LinkProblem& each) { return each.way == kPeersWay; });
    const double least = LeastSpeed(*links->table);
    if (problem != problems.end()) {
      warn(fmt::format("{}; GPUs exchange through the host", problem->problem),
           "comm.backend: auto goes round it; for peers switch off IOMMU and ACS in the firmware, "
           "or take another driver, then hearth probe");
    } else {
      finding.text = fmt::format("between all {} GPUs{}", gpus,
                                 least > 0 ? fmt::format(", at least {:.1f} GB/s", least) : "");
    }
  }
  findings->push_back(finding);
}

}  // namespace hearth
