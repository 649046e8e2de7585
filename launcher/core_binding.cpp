#include "launcher/core_binding.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <tuple>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// A number in /sys about a processor; 0 where the kernel does not say.
int64_t TopologyNumber(int processor, const char* name) {
  std::ifstream in(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", processor, name));
  int64_t number = 0;
  in >> number;
  return in ? number : 0;
}

}  // namespace

std::vector<int> UsableProcessors() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return processors;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(static_cast<size_t>(processor), &mask)) processors.push_back(processor);
  }
  const auto place = [](int processor) {
    return std::tuple(TopologyNumber(processor, "physical_package_id"),
                      TopologyNumber(processor, "core_id"), processor);
  };
  std::sort(processors.begin(), processors.end(),
            [&](int a, int b) { return place(a) < place(b); });
  return processors;
}

std::vector<int> ProcessorsOfRank(const std::vector<int>& processors, const LocalPlace& place) {
  const auto count = std::ssize(processors);
  CHECK(place.rank >= 0 && place.rank < place.ranks, "rank {} of {}", place.rank, place.ranks);
  if (count < place.ranks) return processors;
  const auto begin = processors.begin() + count * place.rank / place.ranks;
  const auto end = processors.begin() + count * (place.rank + 1) / place.ranks;
  return {begin, end};
}

void BindTo(const std::vector<int>& processors) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int processor : processors) CPU_SET(static_cast<size_t>(processor), &mask);
  // A machine that does not allow it runs as well unbound.
  if (!processors.empty()) static_cast<void>(sched_setaffinity(0, sizeof(mask), &mask));
}

}  // namespace hearth
