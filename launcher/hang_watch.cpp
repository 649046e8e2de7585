#include "launcher/hang_watch.h"

#include <fmt/format.h>

#include <tuple>

namespace hearth {

namespace {

// A watch that sleeps longer than this did not get to run itself.
constexpr std::chrono::seconds kWatchPause{2};

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::string DescribeRank(size_t rank, const HeartbeatReading& reading) {
  const std::string on = reading.host.empty() ? "" : " on " + reading.host;
  return fmt::format("rank {} (process {}{})", rank, reading.pid, on);
}

HangWatch::HangWatch(int ranks, const HangLimits& limits, TimePoint now)
    : limits_(limits), last_look_(now), clocks_(static_cast<size_t>(ranks)) {
  Restart(now);
}

void HangWatch::Restart(TimePoint now) {
  for (RankClock& clock : clocks_) clock.last_beat = clock.last_progress = now;
}

std::optional<std::string> HangWatch::Look(const std::vector<HeartbeatReading>& readings,
                                           TimePoint now) {
  if (now - last_look_ > kWatchPause) Restart(now);
  last_look_ = now;
  for (size_t rank = 0; rank < clocks_.size(); ++rank) {
    RankClock& clock = clocks_[rank];
    // Who has just appeared has not been silent before.
    const bool appeared = readings[rank].state != clock.state;
    if (appeared || readings[rank].beats != clock.beats) clock.last_beat = now;
    if (appeared || readings[rank].progress != clock.progress) clock.last_progress = now;
    clock.state = readings[rank].state;
    clock.beats = readings[rank].beats;
    clock.progress = readings[rank].progress;
  }
  if (auto hung = JudgeSilence(readings, now)) return hung;
  return JudgeProgress(readings, now);
}

std::optional<std::string> HangWatch::JudgeSilence(const std::vector<HeartbeatReading>& readings,
                                                   TimePoint now) const {
  for (size_t rank = 0; rank < clocks_.size(); ++rank) {
    const HeartbeatReading& reading = readings[rank];
    const auto silent = now - clocks_[rank].last_beat;
    if (reading.state == RankState::kAbsent && silent > limits_.start) {
      return fmt::format("rank {} did not start within {:.0f} s", rank, Seconds(silent));
    }
    if (reading.state == RankState::kRunning && silent > limits_.silence) {
      return fmt::format("{} does not answer for {:.0f} s: it is stopped, {}; last seen at {}",
                         DescribeRank(rank, reading), Seconds(silent),
                         reading.host.empty()
                             ? "or its machine is overloaded"
                             : "its machine is overloaded or the network to it is down",
                         DescribePlace(reading));
    }
  }
  return std::nullopt;
}

std::optional<std::string> HangWatch::JudgeProgress(const std::vector<HeartbeatReading>& readings,
                                                    TimePoint now) const {
  bool overdue = false;
  // The others wait for the one that has got least far.
  std::optional<size_t> last;
  const auto place = [&](size_t rank) {
    const HeartbeatReading& reading = readings[rank];
    return std::tuple(reading.step, reading.collectives, reading.progress);
  };
  for (size_t rank = 0; rank < clocks_.size(); ++rank) {
    if (readings[rank].state != RankState::kRunning) continue;
    const auto limit = IsLongPhase(readings[rank].phase) ? limits_.long_phase : limits_.progress;
    overdue |= now - clocks_[rank].last_progress > limit;
    if (!last || place(rank) < place(*last)) last = rank;
  }
  if (!overdue) return std::nullopt;
  return fmt::format("{} hangs: no progress for {:.0f} s, last seen at {}",
                     DescribeRank(*last, readings[*last]),
                     Seconds(now - clocks_[*last].last_progress), DescribePlace(readings[*last]));
}

}  // namespace hearth
