#include "comm/api/transport.h"

#include "kernels/core/check.h"

namespace hearth {

std::string RankList(const std::set<int>& ranks) {
  std::string list = ranks.size() == 1 ? "rank " : "ranks ";
  const char* separator = "";
  for (int rank : ranks) {
    list += separator + std::to_string(rank);
    separator = ", ";
  }
  return list;
}

CommError NoAnswer(const std::set<int>& ranks, std::chrono::milliseconds timeout) {
  return CommError(Format("no answer from {} for {} ms", RankList(ranks), timeout.count()));
}

}  // namespace hearth
