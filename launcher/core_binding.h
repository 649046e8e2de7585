// Which processors a rank may use.
#pragma once

#include <vector>

namespace hearth {

// A rank among those of its host.
struct LocalPlace {
  int rank = 0;
  int ranks = 1;
};

// The processors this process may run on, those of one core and of one socket next to each other.
std::vector<int> UsableProcessors();

// This rank's share of them: contiguous, disjoint from the others', sizes differing by one at most.
// All of them when there are fewer processors than ranks.
std::vector<int> ProcessorsOfRank(const std::vector<int>& processors, const LocalPlace& place);

// Restricts this process, and the threads it starts from now on, to these.
void BindTo(const std::vector<int>& processors);

}  // namespace hearth
