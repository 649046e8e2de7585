// This machine itself, with short time limits and folders of the test's own.
#include "launcher/doctor_system.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "launcher/bounded_child.h"
#include "launcher/doctor_probes.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kGenerous{20'000};

void SleepForEver() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

TEST(BoundedChildTest, AnswersComeBackAndSilenceIsGivenUp) {
  EXPECT_EQ(AskChild([] { return std::string("word\nand more"); }, kGenerous), "word\nand more");
  EXPECT_EQ(AskChild([] { return std::string(); }, kGenerous), "");
  EXPECT_EQ(AskChild([] { return std::string(1 << 20, 'x'); }, kGenerous)->size(), 65536u);
  EXPECT_EQ(AskChild([]() -> std::string { throw std::runtime_error("no"); }, kGenerous),
            std::nullopt);
  EXPECT_EQ(AskChild([]() -> std::string { _exit(3); }, kGenerous), std::nullopt);
  const Clock::time_point start = Clock::now();
  EXPECT_EQ(AskChild(
                []() -> std::string {
                  SleepForEver();
                  return "";
                },
                milliseconds(50)),
            std::nullopt);
  EXPECT_LT(Clock::now() - start, kGenerous);
}

TEST(RealSystemTest, ReadsUnderItsRoot) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "proc/sys");
  std::ofstream(folder.path() / "proc/meminfo") << "MemTotal: 1 kB\n";
  RealSystem system(folder.path().string());
  EXPECT_EQ(system.ReadText("/proc/meminfo"), "MemTotal: 1 kB\n");
  EXPECT_EQ(system.ReadText("/proc/nothing"), std::nullopt);
  EXPECT_EQ(system.ListFolder("/proc"), (std::vector<std::string>{"meminfo", "sys"}));
  EXPECT_TRUE(system.ListFolder("/nothing").empty());
}

TEST(RealSystemTest, RunsProgramsBesideEachOtherAndKillsThoseThatHang) {
  RealSystem system;
  const std::string shell = system.FindProgram("sh");
  ASSERT_NE(shell, "");
  const Clock::time_point start = Clock::now();
  const auto ends = system.RunAll({{shell, "-c", "echo out; echo err >&2; exit 3"},
                                   {shell, "-c", "sleep 600"},
                                   {"/nonexistent/program"}},
                                  milliseconds(1'000));
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_TRUE(ends[0].started);
  EXPECT_EQ(ends[0].exit_code, 3);
  EXPECT_EQ(ends[0].output, "out\nerr\n");
  EXPECT_TRUE(ends[1].timed_out);
  EXPECT_FALSE(ends[1].Succeeded());
  EXPECT_FALSE(ends[2].started);
  EXPECT_LT(Clock::now() - start, kGenerous);
}

TEST(RealSystemTest, LimitsAreThoseOfTheProcess) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{.rlim_cur = 200, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  RealSystem system;
  EXPECT_EQ(system.Limit(ProcessLimit::kOpenFiles), 200);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_GE(system.UsableProcessors(), 1);
  EXPECT_EQ(system.CanLoad("libc.so.6"), true);
  EXPECT_EQ(system.CanLoad("libnothing-of-hearth.so"), false);
}

TEST(DoctorProbesTest, TheDiskIsTimedAndLeftAsItWas) {
  const TemporaryFolder folder;
  const DiskFacts facts = TrialOfDisk(folder.path().string(), milliseconds(50));
  EXPECT_EQ(facts.problem, "");
  EXPECT_GT(facts.total_bytes, 0);
  EXPECT_GT(facts.write_megabytes_s, 0);
  EXPECT_GT(facts.read_megabytes_s, 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  const DiskFacts space = TrialOfDisk(folder.path().string(), milliseconds(0));
  EXPECT_EQ(space.write_megabytes_s, 0);
  EXPECT_EQ(space.problem, "");
  const DiskFacts none = TrialOfDisk((folder.path() / "nothing").string(), milliseconds(50));
  EXPECT_NE(none.problem.find("No such file"), std::string::npos) << none.problem;
  EXPECT_EQ(TrialOfDisk("/proc", milliseconds(50)).problem.empty(), false);
}

// Whatever they find here, they come back.
TEST(DoctorProbesTest, TrialsOfTheKernelComeBack) {
  RealSystem system;
  EXPECT_TRUE(system.TryIoUring().has_value());
  EXPECT_TRUE(system.TryReadingAnotherProcess().has_value());
  EXPECT_TRUE(system.TryDisk("/dev/shm", false).has_value());
}

}  // namespace
}  // namespace hearth::test
