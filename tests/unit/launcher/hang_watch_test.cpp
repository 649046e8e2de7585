#include "launcher/hang_watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace hearth {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Two running ranks under a clock of the test's own; a look every 100 ms.
class HangWatchTest : public testing::Test {
 protected:
  HangWatchTest()
      : readings_(2),
        watch_(2,
               {.silence = seconds(3),
                .progress = seconds(8),
                .long_phase = seconds(60),
                .start = seconds(20)},
               now_) {
    for (HeartbeatReading& reading : readings_) {
      reading.state = RankState::kRunning;
      reading.phase = RunPhase::kStepping;
      reading.pid = 77;
    }
  }

  // Lets time pass while ranks beat and work as told; returns the first complaint.
  std::optional<std::string> Pass(milliseconds time, std::vector<bool> beats,
                                  std::vector<bool> works) {
    for (milliseconds passed{0}; passed < time; passed += milliseconds(100)) {
      now_ += milliseconds(100);
      for (size_t rank = 0; rank < readings_.size(); ++rank) {
        if (beats[rank]) ++readings_[rank].beats;
        if (works[rank]) ++readings_[rank].progress;
      }
      if (auto complaint = watch_.Look(readings_, now_)) return complaint;
    }
    return std::nullopt;
  }

  HangWatch::TimePoint now_{seconds(1000)};
  std::vector<HeartbeatReading> readings_;
  HangWatch watch_;
};

TEST_F(HangWatchTest, WorkingRanksAreLeftAlone) {
  EXPECT_EQ(Pass(seconds(100), {true, true}, {true, true}), std::nullopt);
}

TEST_F(HangWatchTest, ASilentRankIsNamed) {
  readings_[1].step = 12;
  EXPECT_EQ(Pass(milliseconds(2900), {true, false}, {true, false}), std::nullopt);
  EXPECT_EQ(Pass(milliseconds(300), {true, false}, {true, false}),
            "rank 1 (process 77) does not answer for 3 s: it is stopped, or its machine is "
            "overloaded; last seen at step 12, stepping");
}

TEST_F(HangWatchTest, ARankElsewhereIsNamedWithItsHost) {
  readings_[1].host = "box-2";
  const auto complaint = Pass(seconds(4), {true, false}, {true, false});
  EXPECT_EQ(complaint,
            "rank 1 (process 77 on box-2) does not answer for 3 s: it is stopped, its machine is "
            "overloaded or the network to it is down; last seen at step 0, stepping");
}

TEST_F(HangWatchTest, WithoutProgressTheOneBehindIsNamed) {
  readings_[0].step = readings_[1].step = 5;
  readings_[0].collectives = 1579;
  readings_[1].collectives = 1580;  // waits for rank 0
  EXPECT_EQ(Pass(milliseconds(7900), {true, true}, {false, false}), std::nullopt);
  EXPECT_EQ(Pass(milliseconds(300), {true, true}, {false, false}),
            "rank 0 (process 77) hangs: no progress for 8 s, last seen at step 5, stepping, "
            "collective #1579");
}

TEST_F(HangWatchTest, LongPhasesHaveTheirOwnLimit) {
  readings_[0].phase = readings_[1].phase = RunPhase::kSaving;
  EXPECT_EQ(Pass(seconds(59), {true, true}, {false, false}), std::nullopt);
  EXPECT_NE(Pass(seconds(2), {true, true}, {false, false}), std::nullopt);
}

TEST_F(HangWatchTest, ARankThatHasFinishedMayBeSilent) {
  readings_[1].state = RankState::kFinished;
  EXPECT_EQ(Pass(seconds(100), {true, false}, {true, false}), std::nullopt);
}

TEST_F(HangWatchTest, ARankThatNeverAppearsIsNamed) {
  readings_[1].state = RankState::kAbsent;
  EXPECT_EQ(Pass(milliseconds(19'900), {true, false}, {true, false}), std::nullopt);
  EXPECT_EQ(Pass(milliseconds(300), {true, false}, {true, false}),
            "rank 1 did not start within 20 s");
}

// Its first beat may be seen later than its first sign.
TEST_F(HangWatchTest, TheClocksOfARankBeginWhenItAppears) {
  readings_[1].state = RankState::kAbsent;
  EXPECT_EQ(Pass(seconds(15), {true, false}, {true, false}), std::nullopt);
  readings_[1].state = RankState::kRunning;
  EXPECT_EQ(Pass(milliseconds(2900), {true, false}, {true, false}), std::nullopt);
  EXPECT_NE(Pass(milliseconds(300), {true, false}, {true, false}), std::nullopt);
}

TEST_F(HangWatchTest, AMachineThatSleptIsNoHang) {
  EXPECT_EQ(Pass(seconds(2), {true, true}, {true, true}), std::nullopt);
  now_ += seconds(3600);
  EXPECT_EQ(Pass(seconds(2), {false, false}, {false, false}), std::nullopt);
  EXPECT_NE(Pass(seconds(2), {false, false}, {false, false}), std::nullopt);
}

}  // namespace
}  // namespace hearth
