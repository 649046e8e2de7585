// Ranks on other hosts: the whole way of mpirun's, with a stand-in for ssh and hosts that are this
// machine under other names.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <regex>
#include <string>

#include "launcher/supervisor.h"
#include "tests/e2e/processes/fake_job.h"
#include "tests/support/fake_hosts.h"

namespace hearth::test {
namespace {

using Clock = std::chrono::steady_clock;

// Open MPI's own complaint about a connection that broke may stand between our lines.
int64_t OwnLines(const std::string& output) {
  static const std::regex start("(^|\n)hearth: ");
  return std::distance(std::sregex_iterator(output.begin(), output.end(), start),
                       std::sregex_iterator());
}

// On a busy machine Open MPI's starter may lose a race with its own child, and says so.
std::string WithoutStartersWarning(const std::string& output) {
  static const std::regex warning("\\[[^\\]\n]*\\] plm:rsh: Warning: setpgid[^\n]*\n");
  return std::regex_replace(output, warning, "");
}

class HostsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!FakeHosts::AreAllowed(&why)) GTEST_SKIP() << why;
    unsetenv("OMPI_MCA_plm");  // a container's, where there is no ssh
  }
};

TEST_F(HostsTest, AJobThatIsDoneLeavesNothing) {
  FakeJob job({.work = FakeWork::kFewSteps, .ranks = 4, .on_two_hosts = true});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitDone);
  EXPECT_EQ(WithoutStartersWarning(job.Output()), "");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST_F(HostsTest, APoliteStopSavesAndSucceeds) {
  FakeJob job({.work = FakeWork::kSteps, .on_two_hosts = true});
  job.Start();
  job.AwaitSteps();
  kill(job.launcher(), SIGTERM);
  EXPECT_EQ(job.AwaitEnd(), kExitDone) << job.Output();
  EXPECT_TRUE(job.Saved(0) && job.Saved(1));
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST_F(HostsTest, AStopThatWasNotHeardIsAskedForAgain) {
  FakeJob job({.work = FakeWork::kDeafOnce, .on_two_hosts = true});
  job.Start();
  job.AwaitSteps();
  kill(job.launcher(), SIGTERM);
  EXPECT_EQ(job.AwaitEnd(), kExitDone) << job.Output();
  EXPECT_TRUE(job.Saved(0) && job.Saved(1));
}

TEST_F(HostsTest, AKilledRankIsNamedWithItsHostAndTheJobStartedAgain) {
  FakeJob job({.work = FakeWork::kSteps, .max_restarts = 1, .on_two_hosts = true});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  kill(job.rank(1), SIGKILL);
  job.AwaitSteps(1);
  Report("killed rank of another host to the next start's third step", since);
  EXPECT_EQ(job.AwaitEnd(), kExitDone);
  const std::string output = job.Output();
  EXPECT_TRUE(std::regex_search(
      output, std::regex("rank 1 \\(process [0-9]+ on faketwo\\) died: killed by signal 9")))
      << output;
  EXPECT_TRUE(Contains(output, "(1 of 1 restarts)")) << output;
  EXPECT_EQ(OwnLines(output), 2) << output;
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST_F(HostsTest, AStoppedRankIsNamedWithItsHostAndRemoved) {
  FakeJob job({.work = FakeWork::kSteps, .on_two_hosts = true});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  kill(job.rank(1), SIGSTOP);
  EXPECT_EQ(job.AwaitEnd(), kExitRankLost);
  Report("stopped rank of another host to the launcher's end (silence limit 2 s)", since);
  EXPECT_TRUE(Contains(job.Output(), " on faketwo) does not answer")) << job.Output();
  EXPECT_TRUE(job.AwaitNothingLeft());
}

TEST_F(HostsTest, AKilledLauncherTakesAllHostsWithIt) {
  FakeJob job({.work = FakeWork::kSteps, .on_two_hosts = true});
  job.Start();
  job.AwaitSteps();
  const auto since = Clock::now();
  kill(job.launcher(), SIGKILL);
  EXPECT_EQ(job.AwaitEnd(), 128 + SIGKILL);
  EXPECT_TRUE(job.AwaitNothingLeft());
  Report("killed launcher to nothing left on other hosts", since);
}

TEST_F(HostsTest, AFailureIsToldOnce) {
  FakeJob job({.work = FakeWork::kRank1Throws, .max_restarts = 3, .on_two_hosts = true});
  job.Start();
  EXPECT_EQ(job.AwaitEnd(), kExitFailed);
  EXPECT_EQ(WithoutStartersWarning(job.Output()), "hearth: rank 1: the disk of rank 1 is gone\n");
  EXPECT_TRUE(job.AwaitNothingLeft());
}

}  // namespace
}  // namespace hearth::test
