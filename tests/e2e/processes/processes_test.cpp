// Whatever is killed, stopped or stuck: it is named, and nothing is left behind.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "launcher/process.h"
#include "launcher/supervisor.h"
#include "tests/e2e/processes/fake_job.h"

namespace hearth::test {
namespace {

using Clock = std::chrono::steady_clock;

TEST(ProcessesTest, AJobThatIsDoneLeavesNothing) {
  FakeJob job({.work = FakeWork::kFewSteps});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitDone);
  EXPECT_EQ(job.Output(), "");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

// Open MPI looks for ssh on one host as well, and gives up where there is none.
TEST(ProcessesTest, OneHostNeedsNoSsh) {
  setenv("OMPI_MCA_plm_rsh_agent", "/nowhere/ssh", 1);
  FakeJob job({.work = FakeWork::kFewSteps});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitDone);
  EXPECT_EQ(job.Output(), "");
  unsetenv("OMPI_MCA_plm_rsh_agent");
}

TEST(ProcessesTest, APoliteStopSavesAndSucceeds) {
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
    FakeJob job({.work = FakeWork::kSteps});
    job.Start();
    job.AwaitSteps();
    kill(job.launcher(), number);
    EXPECT_EQ(job.AwaitEnd(), kExitDone) << "signal " << number << ": " << job.Output();
    EXPECT_TRUE(job.Saved(0) && job.Saved(1)) << "signal " << number;
    EXPECT_TRUE(job.AwaitNothingLeft());
  }
}

// The request may come before the ranks, or mpirun, are ready for it.
TEST(ProcessesTest, AStopDuringTheStartIsNotLost) {
  for (int delay_ms = 0; delay_ms <= 200; delay_ms += 40) {
    FakeJob job({.work = FakeWork::kSteps});
    job.Start();
    // The launcher is ready once it takes signals as messages; before, a signal simply ends it.
    usleep(static_cast<useconds_t>(delay_ms * 1000));
    kill(job.launcher(), SIGTERM);
    const int code = job.AwaitEnd();
    EXPECT_TRUE(code == kExitDone || code == 128 + SIGTERM) << code << job.Output();
    EXPECT_TRUE(job.AwaitNothingLeft());
  }
}

TEST(ProcessesTest, ASecondSignalEndsAtOnce) {
  FakeJob job({.work = FakeWork::kStubborn});
  job.Start();
  job.AwaitSteps();
  kill(job.launcher(), SIGTERM);
  job.AwaitOutput("stopping");
  const auto since = Clock::now();
  kill(job.launcher(), SIGTERM);
  EXPECT_EQ(job.AwaitEnd(), kExitFailed);
  Report("second signal to the launcher's end", since);
  EXPECT_FALSE(job.Saved(0));
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AKilledRankIsNamedAndTheJobStartedAgain) {
  FakeJob job({.work = FakeWork::kSteps, .ranks = 2, .max_restarts = 1});
  job.Start();
  job.AwaitSteps();
  const pid_t killed = job.rank(1);
  const auto since = Clock::now();
  kill(killed, SIGKILL);
  job.AwaitSteps(1);
  Report("killed rank to the next start's third step", since);
  EXPECT_EQ(job.AwaitEnd(), kExitDone);
  EXPECT_TRUE(Contains(job.Output(), "rank 1 (process " + std::to_string(killed) + ") died"))
      << job.Output();
  EXPECT_TRUE(Contains(job.Output(), "(1 of 1 restarts)")) << job.Output();
  // Two lines, and nothing of mpirun's.
  const std::string output = job.Output();
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 2) << output;
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AKilledRankWithoutRestartsEndsTheJob) {
  FakeJob job({.work = FakeWork::kSteps, .ranks = 3});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  kill(job.rank(0), SIGKILL);
  EXPECT_EQ(job.AwaitEnd(), kExitRankLost);
  Report("killed rank to the launcher's end", since);
  EXPECT_TRUE(Contains(job.Output(), "rank 0 (process ")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AStoppedRankIsNamedAndRemoved) {
  FakeJob job({.work = FakeWork::kSteps});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  kill(job.rank(1), SIGSTOP);
  EXPECT_EQ(job.AwaitEnd(), kExitRankLost);
  Report("stopped rank to the launcher's end (silence limit 2 s)", since);
  EXPECT_TRUE(Contains(job.Output(), "rank 1 (process ")) << job.Output();
  EXPECT_TRUE(Contains(job.Output(), "does not answer")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, ARankThatHangsInACollectiveIsNamedByItsPeers) {
  FakeJob job({.work = FakeWork::kRank1Idle});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  EXPECT_EQ(job.AwaitEnd(), kExitRankLost);
  Report("hung rank to the launcher's end (collective_timeout 3 s)", since);
  EXPECT_TRUE(Contains(job.Output(), "rank 0: ")) << job.Output();
  EXPECT_TRUE(Contains(job.Output(), "1")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, ARankThatHangsUnnoticedByItsPeersIsNamed) {
  FakeJob job({.work = FakeWork::kRank1Alone});
  job.Start();
  job.AwaitSteps();
  EXPECT_EQ(job.AwaitEnd(), kExitRankLost);
  EXPECT_TRUE(Contains(job.Output(), "rank 1 (process ")) << job.Output();
  EXPECT_TRUE(Contains(job.Output(), "hangs: no progress")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AKilledLauncherTakesAllWithIt) {
  FakeJob job({.work = FakeWork::kSteps});
  job.Start();
  job.AwaitSteps();
  const std::vector<pid_t> pids = {job.rank(0), job.rank(1), job.mpirun()};
  const auto since = Clock::now();
  kill(job.launcher(), SIGKILL);
  EXPECT_EQ(job.AwaitEnd(), 128 + SIGKILL);
  EXPECT_TRUE(job.AwaitNothingLeft());
  Report("killed launcher to nothing left", since);
  for (const pid_t pid : pids) EXPECT_FALSE(IsRunning(pid));
}

TEST(ProcessesTest, AKilledMpirunIsNamedAndTheJobStartedAgain) {
  FakeJob job({.work = FakeWork::kSteps, .ranks = 2, .max_restarts = 1});
  job.Start();
  job.AwaitSteps();
  kill(job.mpirun(), SIGKILL);
  EXPECT_EQ(job.AwaitEnd(), kExitDone) << job.Output();
  EXPECT_TRUE(Contains(job.Output(), "(1 of 1 restarts)")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AllRanksRefusingIsToldOnce) {
  FakeJob job({.work = FakeWork::kRefused, .ranks = 2, .max_restarts = 3});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitUsage);
  EXPECT_EQ(job.Output(), "run.yaml:1:1: error: refused by all\n");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, AFailureIsToldOnceAndNotRepeated) {
  FakeJob job({.work = FakeWork::kRank1Throws, .ranks = 2, .max_restarts = 3});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitFailed);
  EXPECT_EQ(job.Output(), "hearth: rank 1: the disk of rank 1 is gone\n");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

// Rank 0 of each start takes the lock of the output folder; two would show as a refused start.
void KillAndStartAgain(int rounds) {
  FakeJob job({.work = FakeWork::kFewSteps});
  for (int round = 0; round < rounds; ++round) {
    job.Start();
    usleep(static_cast<useconds_t>(round % 10 * 60'000));  // somewhere in the job's life
    kill(job.launcher(), SIGKILL);
    job.AwaitEnd();
  }
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitDone) << job.Output();
  EXPECT_EQ(job.Output(), "");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST(ProcessesTest, KillingAndStartingAtOnceNeverHasTwoWriters) { KillAndStartAgain(10); }

TEST(LongProcessesTest, KillingAndStartingAtOnceAHundredTimes) { KillAndStartAgain(100); }

}  // namespace
}  // namespace hearth::test
