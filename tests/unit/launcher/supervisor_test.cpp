#include "launcher/supervisor.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "launcher/message_log.h"
#include "launcher/process.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::TemporaryFolder;

// Jobs of shell processes: no rank among them ever appears on the heartbeat page.
class SupervisorTest : public testing::Test {
 protected:
  int RunJob(const std::string& script, int64_t max_restarts = 0, bool remote_ranks = false,
             milliseconds reach_timeout = seconds(60)) {
    testing::internal::CaptureStderr();
    const int code = Supervise({.ranks = 1,
                                .limits = limits_,
                                .max_restarts = max_restarts,
                                .reach_timeout = reach_timeout,
                                .reach_pause = milliseconds(10),
                                .remote_ranks = remote_ranks,
                                .make_start =
                                    [&](const std::filesystem::path& folder, int64_t start) {
                                      EXPECT_TRUE(std::filesystem::exists(folder / kHeartbeatFile));
                                      std::vector<std::string> environment = Environment();
                                      SetVariable(&environment, "START", std::to_string(start));
                                      SetVariable(&environment, "BASE", base_.string());
                                      return ProcessOptions{.arguments = {"/bin/sh", "-c", script},
                                                            .environment = environment};
                                    },
                                .job_base = base_ / "",
                                .run_folder = run_folder_});
    errors_ = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(Children().empty());
    for (const auto& entry : std::filesystem::directory_iterator(base_)) {
      EXPECT_FALSE(entry.is_directory()) << entry.path() << " is left";
    }
    return code;
  }

  // Sends this process signals once the job has created BASE/ready.
  std::thread SignalWhenReady(std::vector<int> signals) {
    return std::thread([this, signals] {
      // The thread that supervises, and it alone, shall take them.
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      while (!std::filesystem::exists(base_ / "ready")) {
        std::this_thread::sleep_for(milliseconds(10));
      }
      for (const int number : signals) {
        kill(getpid(), number);
        std::this_thread::sleep_for(milliseconds(300));
      }
    });
  }

  const TemporaryFolder temporary_;
  const std::filesystem::path base_ = temporary_.path();
  std::filesystem::path run_folder_;
  HangLimits limits_;
  std::string errors_;
};

TEST_F(SupervisorTest, TheJobsExitCodeIsPassedOn) {
  EXPECT_EQ(RunJob("exit 0"), kExitDone);
  EXPECT_EQ(errors_, "");
  EXPECT_EQ(RunJob("exit 2"), kExitUsage);
  EXPECT_EQ(RunJob("exit 3"), kExitBudget);
}

TEST_F(SupervisorTest, ALostJobIsStartedAgainAsOftenAsAllowed) {
  EXPECT_EQ(RunJob("echo start $START >> $BASE/starts; [ $START = 2 ] || kill -9 $$", 3),
            kExitDone);
  std::ifstream in(base_ / "starts");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "start 0\nstart 1\nstart 2\n");
  EXPECT_NE(errors_.find("was killed by signal 9"), std::string::npos) << errors_;
  EXPECT_NE(errors_.find("(2 of 3 restarts)"), std::string::npos) << errors_;

  EXPECT_EQ(RunJob("kill -9 $$", 1), kExitRankLost);
  EXPECT_EQ(RunJob("kill -9 $$", 0), kExitRankLost);
}

// mpirun's words for a host that does not answer.
const std::string kUnreachable =
    "{ { echo $(printf -- -%.0s $(seq 74)); echo 'ORTE was unable to reliably start one or more "
    "daemons.'; "
    "echo $(printf -- -%.0s $(seq 74)); } >&2; exit 1; }";

TEST_F(SupervisorTest, AHostOutOfReachIsWaitedForAtARestart) {
  const std::string script =
      "echo $START >> $BASE/starts; [ $START = 0 ] && kill -9 $$; "
      "[ $(wc -l <$BASE/starts) -gt 4 ] || " +
      kUnreachable;
  EXPECT_EQ(RunJob(script, 1, true), kExitDone) << errors_;
  std::ifstream in(base_ / "starts");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "0\n1\n1\n1\n1\n");
  EXPECT_NE(errors_.find("trying to reach all hosts again for 60 s"), std::string::npos) << errors_;
  EXPECT_EQ(errors_.find("could not be started"), errors_.rfind("could not be started")) << errors_;
}

TEST_F(SupervisorTest, AHostOutOfReachIsNotWaitedForAtTheStartNorForEver) {
  EXPECT_EQ(RunJob("echo x >> $BASE/starts; " + kUnreachable, 3, true), kExitFailed);
  EXPECT_EQ(std::filesystem::file_size(base_ / "starts"), 2u);
  EXPECT_EQ(RunJob("[ $START = 0 ] && kill -9 $$; " + kUnreachable, 3, true, milliseconds(50)),
            kExitFailed);
  EXPECT_NE(errors_.find("daemon could not be started on a host"), std::string::npos) << errors_;
}

TEST_F(SupervisorTest, NobodyOutlivesTheJob) {
  // Children, grandchildren of ended parents, one in a session of its own, one that ignores
  // SIGTERM.
  EXPECT_EQ(RunJob("sleep 1000 & (sleep 1001 & sleep 1002 &) ; setsid sleep 1003 & "
                   "(trap '' TERM; sleep 1004) & sleep 0.1; exit 0"),
            kExitDone);
}

// All that ranks say is passed on, and what Hearth says is kept as soon as there is a folder.
TEST_F(SupervisorTest, WhatIsSaidIsKeptInTheRunsFolder) {
  const TemporaryFolder folder;
  run_folder_ = folder.path() / "run";
  EXPECT_EQ(RunJob("echo 'hearth: warning: early' >&2; exit 2"), kExitUsage);
  EXPECT_FALSE(std::filesystem::exists(run_folder_));
  EXPECT_EQ(errors_.rfind("hearth: warning: early\nhearth: no rank was started", 0), 0u) << errors_;

  const std::string path = run_folder_.string();
  EXPECT_EQ(RunJob("if [ $START = 1 ]; then printf 'hearth: late' >&2; exit 0; fi; "
                   "echo 'hearth: early' >&2; echo other >&2; mkdir " +
                       path + "; kill -9 $$",
                   1),
            kExitDone);
  EXPECT_EQ(errors_.rfind("hearth: early\nother\nhearth: mpirun (process", 0), 0u) << errors_;
  std::ifstream in(run_folder_ / kMessagesFile);
  std::vector<std::string> words;
  for (std::string line; std::getline(in, line);) {
    ASSERT_GT(line.size(), 21u);
    EXPECT_EQ(line.substr(19, 2), "Z ") << line;
    words.push_back(line.substr(21));
  }
  ASSERT_EQ(words.size(), 4u);
  EXPECT_EQ(words[0], "early");
  EXPECT_NE(words[1].find("was killed by signal 9"), std::string::npos) << words[1];
  EXPECT_NE(words[2].find("starting again from the last checkpoint (1 of 1"), std::string::npos);
  EXPECT_EQ(words[3], "late");
}

// Ranks on a host that is out of reach are waited for in vain, and then killed: nobody has to wait
// for that to hear which one it is.
TEST_F(SupervisorTest, ARankElsewhereIsNamedBeforeAllAreEnded) {
  const TemporaryFolder folder;
  run_folder_ = folder.path();
  limits_.start = milliseconds(100);
  const std::string messages = (run_folder_ / kMessagesFile).string();
  EXPECT_EQ(RunJob("trap 'until grep -q \"rank 0 did not start\" " + messages +
                       "; do sleep 0.02; done; touch $BASE/named; exit 1' TERM; "
                       "while :; do sleep 0.02; done",
                   0, true),
            kExitRankLost);
  EXPECT_TRUE(std::filesystem::exists(base_ / "named")) << errors_;
  EXPECT_EQ(errors_.find("did not start"), errors_.rfind("did not start")) << errors_;
}

// A script may have started it before it became the launcher by exec.
TEST_F(SupervisorTest, AChildFromBeforeTheJobIsLeftAlone) {
  AdoptOrphans();
  const pid_t bystander = StartProcess({.arguments = {"/bin/sleep", "1000"}, .environment = {}});
  testing::internal::CaptureStderr();
  EXPECT_EQ(Supervise({.ranks = 1,
                       .limits = {},
                       .max_restarts = 0,
                       .remote_ranks = false,
                       .make_start =
                           [](const std::filesystem::path&, int64_t) {
                             return ProcessOptions{
                                 .arguments = {"/bin/sh", "-c", "sleep 1001 & exit 0"},
                                 .environment = Environment()};
                           },
                       .job_base = base_}),
            kExitDone);
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(Children(), std::vector<pid_t>{bystander});
  EXPECT_TRUE(IsRunning(bystander));
  KillChildren({}, -1, 10'000);
}

TEST_F(SupervisorTest, ASecondSignalEndsAtOnce) {
  std::thread sender = SignalWhenReady({SIGTERM, SIGINT});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(RunJob("touch $BASE/ready; trap '' TERM INT USR1; sleep 1000 & wait; sleep 1000"),
            kExitFailed);
  sender.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(60));
  EXPECT_NE(errors_.find("finish their step"), std::string::npos) << errors_;
  EXPECT_NE(errors_.find("ended at once"), std::string::npos) << errors_;
}

TEST_F(SupervisorTest, AProgramThatIsNotThereIsAnError) {
  EXPECT_ANY_THROW(Supervise({.ranks = 1,
                              .limits = {},
                              .max_restarts = 3,
                              .remote_ranks = false,
                              .make_start =
                                  [](const std::filesystem::path&, int64_t) {
                                    return ProcessOptions{.arguments = {"/nonexistent"},
                                                          .environment = {}};
                                  },
                              .job_base = base_}));
  EXPECT_TRUE(std::filesystem::is_empty(base_));
}

TEST(ProcessTest, SeesWhoRunsAndWhoIsGone) {
  const pid_t child = StartProcess({.arguments = {"/bin/sleep", "100"}, .environment = {}});
  EXPECT_TRUE(IsRunning(child));
  EXPECT_EQ(Children(), std::vector<pid_t>{child});
  EXPECT_EQ(getpgid(child), child);
  kill(child, SIGKILL);
  while (IsRunning(child)) std::this_thread::sleep_for(milliseconds(1));  // a zombie is gone
  EXPECT_EQ(KillChildren({}, child, 1000) & 0x7f, SIGKILL);
  EXPECT_TRUE(Children().empty());
}

TEST(ProcessTest, ChildrenHaveAnEmptyInputAndOurEnvironmentAlone) {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string();
  StartProcess({.arguments = {"/bin/sh", "-c", "cat > $OUT; echo $A >> $OUT; exit 5"},
                .environment = {"OUT=" + out, "A=b c"}});
  while (!Children().empty() && IsRunning(Children()[0])) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  KillChildren({}, -1, 1000);
  std::ifstream in(out);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "b c\n");
}

}  // namespace
}  // namespace hearth
