#include "runtime/telemetry/heartbeat.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

class HeartbeatTest : public testing::Test {
 protected:
  const test::TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  const std::filesystem::path path_ = folder_ / "heartbeat";
};

TEST_F(HeartbeatTest, ShowsARankFromStartToEnd) {
  const HeartbeatBoard board = HeartbeatBoard::Create(path_, 3);
  EXPECT_EQ(ReadHeartbeat(board, 2).state, RankState::kAbsent);
  {
    Heartbeat heartbeat(path_, 2, milliseconds(1));
    EXPECT_EQ(ReadHeartbeat(board, 2).state, RankState::kRunning);
    EXPECT_EQ(ReadHeartbeat(board, 2).pid, getpid());
    heartbeat.Progress(7, RunPhase::kStepping, 1579);
    heartbeat.Progress(7, RunPhase::kEvaluating);
    const HeartbeatReading reading = ReadHeartbeat(board, 2);
    EXPECT_EQ(reading.progress, 2);
    EXPECT_EQ(DescribePlace(reading), "step 7, evaluating, collective #1579");
    heartbeat.Fail(4, std::string(5000, 'x'));
    heartbeat.Finish();  // too late
  }
  const HeartbeatReading reading = ReadHeartbeat(board, 2);
  EXPECT_EQ(reading.state, RankState::kFailed);
  EXPECT_EQ(reading.exit_code, 4);
  EXPECT_EQ(reading.message, std::string(HeartbeatSlot::kMaxMessage - 1, 'x'));
  EXPECT_GT(reading.ended_ns, 0);
  EXPECT_EQ(ReadHeartbeat(board, 1).state, RankState::kAbsent);
}

TEST_F(HeartbeatTest, BeatsByItselfInAnotherProcess) {
  const HeartbeatBoard board = HeartbeatBoard::Create(path_, 1);
  const pid_t child = fork();
  if (child == 0) {
    Heartbeat heartbeat(path_, 0, milliseconds(5));
    sleep(30);
    _exit(0);
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (ReadHeartbeat(board, 0).beats < 5 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_GE(ReadHeartbeat(board, 0).beats, 5);
  EXPECT_EQ(ReadHeartbeat(board, 0).pid, child);

  kill(child, SIGSTOP);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  const int64_t stopped_at = ReadHeartbeat(board, 0).beats;
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(ReadHeartbeat(board, 0).beats, stopped_at);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

TEST_F(HeartbeatTest, WithoutAPageItIsSilent) {
  Heartbeat heartbeat;
  heartbeat.Progress(1, RunPhase::kStepping);
  heartbeat.Finish();
  heartbeat.Fail(1, "no one reads this");
}

TEST_F(HeartbeatTest, OddPagesAreErrors) {
  EXPECT_THROW(Heartbeat(path_, 0, milliseconds(10)), IoError);
  std::ofstream(path_) << "too short";
  EXPECT_THROW(Heartbeat(path_, 0, milliseconds(10)), IoError);
  EXPECT_THROW(HeartbeatBoard::Create(path_, 1), IoError);
  std::filesystem::remove(path_);
  HeartbeatBoard::Create(path_, 2);
  EXPECT_THROW(Heartbeat(path_, 2, milliseconds(10)), CheckError);
}

}  // namespace
}  // namespace hearth
