// How the ranks of a job are spread over boxes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/api/bootstrap.h"

namespace hearth {

// Rank r is number r % ranks_per_box of box r / ranks_per_box.
struct Topology {
  int boxes = 1;
  int ranks_per_box = 1;
  bool operator==(const Topology&) const = default;
};

// Of ranks that run on these hosts: a name each and, behind a line's end, what else tells two hosts
// of one name apart. ConfigError where one host has more ranks than another, or where the ranks of
// a host do not follow each other.
Topology TopologyOf(const std::vector<std::string>& hosts);

// Collective; `host` is this rank's.
Topology FindTopology(Bootstrap& bootstrap, std::string_view host);

}  // namespace hearth
