#include "launcher/starter_output.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "launcher/rank_report.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

constexpr const char* kToken = "hearth-job-0-Ab3dE6";
const std::string kFrame = std::string(74, '-') + "\n";

RankReport Sample() {
  return {.rank = 1,
          .reading = {.state = RankState::kFailed,
                      .pid = 4711,
                      .beats = 12,
                      .progress = 34,
                      .step = 56,
                      .phase = RunPhase::kSaving,
                      .collectives = 78,
                      .exit_code = 3,
                      .ended_ns = 0,
                      .message = "100 % of it|\nlost \xc3\xa9\x01",
                      .host = "box-2.local"}};
}

std::string WithoutEnd(std::string line) {
  EXPECT_EQ(line.back(), '\n');
  line.pop_back();
  return line;
}

TEST(RankReportTest, ReadsWhatItWrites) {
  const RankReport sample = Sample();
  const std::string line = WithoutEnd(FormatRankReport(kToken, sample));
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_TRUE(IsRankReport(kToken, line));
  EXPECT_FALSE(IsRankReport("hearth-job-0-Ab3dE7", line));
  const auto read = ParseRankReport(kToken, line);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->rank, 1);
  EXPECT_EQ(read->reading.state, RankState::kFailed);
  EXPECT_EQ(read->reading.pid, 4711);
  EXPECT_EQ(read->reading.beats, 12);
  EXPECT_EQ(read->reading.progress, 34);
  EXPECT_EQ(read->reading.step, 56);
  EXPECT_EQ(read->reading.phase, RunPhase::kSaving);
  EXPECT_EQ(read->reading.collectives, 78);
  EXPECT_EQ(read->reading.exit_code, 3);
  EXPECT_EQ(read->reading.message, sample.reading.message);
  EXPECT_EQ(read->reading.host, "box-2.local");
}

TEST(RankReportTest, ADamagedOneIsNone) {
  const std::string line = WithoutEnd(FormatRankReport(kToken, Sample()));
  for (size_t length = 0; length < line.size(); ++length) {
    EXPECT_FALSE(ParseRankReport(kToken, line.substr(0, length))) << length;
  }
  EXPECT_FALSE(ParseRankReport(kToken, line + ">"));
  EXPECT_FALSE(ParseRankReport(kToken, "x" + line));
  std::string other = line;
  other.replace(other.find("4711"), 4, "-711");
  EXPECT_FALSE(ParseRankReport(kToken, other));
  other.replace(other.find("-711"), 4, "47x1");
  EXPECT_FALSE(ParseRankReport(kToken, other));
}

TEST(RankReportTest, ALongMessageStillFitsOneWrite) {
  RankReport report = Sample();
  report.reading.message = std::string(100'000, '\n');
  const std::string line = FormatRankReport(kToken, report);
  EXPECT_LT(line.size(), 4096u);
  EXPECT_TRUE(ParseRankReport(kToken, WithoutEnd(line)));
}

class StarterOutputTest : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  HeartbeatBoard board_ = HeartbeatBoard::Create(folder_.path() / "page", 2);
  StarterOutput output_{board_, kToken};
};

TEST_F(StarterOutputTest, ReportsGoToThePageAndWordsToPeople) {
  const std::string report = FormatRankReport(kToken, Sample());
  testing::internal::CaptureStderr();
  output_.Take("a rank's wo");
  output_.Take("rds\n" + report.substr(0, 20));
  EXPECT_EQ(ReadHeartbeat(board_, 1).state, RankState::kAbsent);
  output_.Take(report.substr(20) + "more\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "a rank's words\nmore\n");
  const HeartbeatReading reading = ReadHeartbeat(board_, 1);
  EXPECT_EQ(reading.state, RankState::kFailed);
  EXPECT_EQ(reading.step, 56);
  EXPECT_EQ(reading.message, Sample().reading.message);
  EXPECT_GT(reading.ended_ns, 0);
  EXPECT_EQ(output_.host(1), "box-2.local");
  EXPECT_EQ(output_.host(0), "");
}

TEST_F(StarterOutputTest, AReportOfNoRankOfTheJobIsDropped) {
  RankReport report = Sample();
  report.rank = 2;
  testing::internal::CaptureStderr();
  output_.Take(FormatRankReport(kToken, report));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(StarterOutputTest, ReadsItsPipeToTheEnd) {
  const std::string text = "the last words";
  ASSERT_EQ(write(output_.write_end(), text.data(), text.size()),
            static_cast<ssize_t>(text.size()));
  testing::internal::CaptureStderr();
  output_.Drain();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  output_.CloseWriteEnd();
  testing::internal::CaptureStderr();
  output_.DrainToEnd(std::chrono::seconds(60));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "the last words\n");
}

// As mpirun 4.1.4 says it.
TEST_F(StarterOutputTest, WhatMpirunSaysOfAKilledRankIsTheVerdict) {
  testing::internal::CaptureStderr();
  output_.Take(kFrame +
               "Primary job  terminated normally, but 1 process returned\n"
               "a non-zero exit code. Per user-direction, the job has been aborted.\n" +
               kFrame);
  EXPECT_FALSE(output_.verdict().has_value());
  output_.Take(kFrame +
               "mpirun noticed that process rank 1 with PID 8 on node faketwo exited on signal 9 "
               "(Killed).\n" +
               kFrame);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  ASSERT_TRUE(output_.verdict().has_value());
  EXPECT_TRUE(output_.verdict()->started);
  EXPECT_EQ(output_.verdict()->message,
            "hearth: rank 1 (process 8 on faketwo) died: killed by signal 9 or crashed (out of "
            "memory? see dmesg there)");
}

TEST_F(StarterOutputTest, WhatIsNotKnownIsPassedOn) {
  testing::internal::CaptureStderr();
  output_.Take(kFrame + "Something about a firewall\n" + kFrame);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "Something about a firewall\n");
  EXPECT_FALSE(output_.verdict().has_value());
}

TEST(StarterBlockTest, HostsThatAreNotAsTheyHaveToBeAreNamed) {
  auto verdict = JudgeStarterBlock(
      "mpirun was unable to launch the specified application as it could not\n"
      "change to the specified working directory:\n\nWorking directory: /tmp/not here\n"
      "Node: faketwo\n\nwhile attempting to start process rank 1.\n");
  ASSERT_TRUE(verdict.has_value());
  EXPECT_FALSE(verdict->started);
  EXPECT_EQ(verdict->message.find("hearth: host faketwo: no folder /tmp/not here: "), 0u);

  verdict = JudgeStarterBlock(
      "mpirun was unable to launch the specified application as it could not access\n"
      "or execute an executable:\n\nExecutable: /opt/hearth\nNode: faketwo\n\n"
      "while attempting to start process rank 1.\n");
  ASSERT_TRUE(verdict.has_value());
  EXPECT_FALSE(verdict->started);
  EXPECT_EQ(verdict->message.find("hearth: host faketwo: /opt/hearth cannot be run: "), 0u);

  verdict = JudgeStarterBlock(
      "ORTE has lost communication with a remote daemon.\n\n"
      "  HNP daemon   : [[1,0],0] on node here\n  Remote daemon: [[1,0],2] on node faketwo\n\n"
      "This is usually due to either a failure of the TCP network\n"
      "connection to the node, or possibly an internal failure of\nthe daemon itself.\n");
  ASSERT_TRUE(verdict.has_value());
  EXPECT_TRUE(verdict->started);
  EXPECT_EQ(verdict->message.find("hearth: host faketwo was lost"), 0u);
}

}  // namespace
}  // namespace hearth
