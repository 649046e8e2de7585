// Judges from the heartbeat page whether the ranks of a job are well.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

// "rank 3 (process 4711)", or "rank 3 (process 4711 on box-2)" of one on another host.
std::string DescribeRank(size_t rank, const HeartbeatReading& reading);

struct HangLimits {
  std::chrono::milliseconds silence{6'000};       // without a beat: stopped
  std::chrono::milliseconds progress{105'000};    // without progress, in a short phase
  std::chrono::milliseconds long_phase{600'000};  // the same in a long phase
  std::chrono::milliseconds start{305'000};       // until a rank has appeared
};

class HangWatch {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  HangWatch(int ranks, const HangLimits& limits, TimePoint now);

  // Takes the page as it is now; returns who hangs and where, in one line, or nothing. When the
  // watch itself was not called for long (the machine slept), all clocks begin anew.
  std::optional<std::string> Look(const std::vector<HeartbeatReading>& readings, TimePoint now);

 private:
  struct RankClock {
    RankState state = RankState::kAbsent;
    int64_t beats = -1;
    int64_t progress = -1;
    TimePoint last_beat;
    TimePoint last_progress;
  };

  void Restart(TimePoint now);
  std::optional<std::string> JudgeSilence(const std::vector<HeartbeatReading>& readings,
                                          TimePoint now) const;
  std::optional<std::string> JudgeProgress(const std::vector<HeartbeatReading>& readings,
                                           TimePoint now) const;

  HangLimits limits_;
  TimePoint last_look_;
  std::vector<RankClock> clocks_;
};

}  // namespace hearth
