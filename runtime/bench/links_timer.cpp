#include "runtime/bench/links_timer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "runtime/bench/median.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTimeout{60'000};
constexpr int64_t kMostCalls = 200;

Bytes ToBytes(double value) {
  Bytes bytes(sizeof(value));
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

double Time(Bootstrap& bootstrap, Stream& stream, int64_t calls,
            const std::function<void()>& enqueue) {
  bootstrap.Barrier();
  const Clock::time_point begin = Clock::now();
  for (int64_t call = 0; call < calls; ++call) enqueue();
  stream.Synchronize(kTimeout);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return Largest(bootstrap, seconds / static_cast<double>(calls));
}

}  // namespace

double Largest(Bootstrap& bootstrap, double mine) {
  double largest = mine;
  for (const Bytes& theirs : bootstrap.AllGather(ToBytes(mine))) {
    double value = 0;
    std::memcpy(&value, theirs.data(), sizeof(value));
    largest = std::max(largest, value);
  }
  return largest;
}

double TimeTogether(Bootstrap& bootstrap, Stream& stream, const LinksTimerArgs& args,
                    const std::function<void()>& enqueue) {
  const double first = Time(bootstrap, stream, 1, enqueue);
  const double once = std::min(first, Time(bootstrap, stream, 1, enqueue));
  const auto calls =
      std::clamp(static_cast<int64_t>(args.seconds_per_repetition / once), int64_t{1}, kMostCalls);
  std::vector<double> seconds;
  for (int repetition = 0; repetition < args.repetitions; ++repetition) {
    seconds.push_back(Time(bootstrap, stream, calls, enqueue));
  }
  return UpperMedian(seconds);
}

}  // namespace hearth
