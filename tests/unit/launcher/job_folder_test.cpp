#include "launcher/job_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "kernels/core/error.h"
#include "launcher/process.h"
#include "launcher/run_lock.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

class JobFolderTest : public testing::Test {
 protected:
  // A process that owns a job folder and waits to be killed. Returns when the folder is there.
  pid_t StartOwner(pid_t* guard) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t owner = fork();
    if (owner == 0) {
      const JobFolder folder(base_);
      std::ofstream(folder.path() / "segment") << "shared memory";
      const pid_t own_guard = folder.guard();
      if (write(ready[1], &own_guard, sizeof(own_guard)) < 0) _exit(1);
      pause();
    }
    close(ready[1]);
    EXPECT_EQ(read(ready[0], guard, sizeof(*guard)), static_cast<ssize_t>(sizeof(*guard)));
    close(ready[0]);
    return owner;
  }

  bool IsEmpty() const { return std::filesystem::is_empty(base_); }

  const test::TemporaryFolder temporary_;
  const std::filesystem::path base_ = temporary_.path();
};

TEST_F(JobFolderTest, GoesWithItsObject) {
  {
    const JobFolder one(base_);
    const JobFolder other(base_);
    EXPECT_NE(one.path(), other.path());
    EXPECT_TRUE(std::filesystem::is_directory(one.path()));
    EXPECT_EQ(std::filesystem::status(one.path()).permissions(), std::filesystem::perms::owner_all);
  }
  EXPECT_TRUE(IsEmpty());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);  // the guards are gone too
}

// A process that shares the folder and waits to be killed. Returns when it does.
pid_t StartSharer(const std::filesystem::path& folder) {
  int ready[2];
  EXPECT_EQ(pipe(ready), 0);
  const pid_t sharer = fork();
  if (sharer == 0) {
    ShareJobFolder(folder, 0);
    if (write(ready[1], "r", 1) < 0) _exit(1);
    while (true) pause();
  }
  close(ready[1]);
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  return sharer;
}

void Kill(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// On a host where the launcher is not.
TEST_F(JobFolderTest, LivesAsLongAsARankOfAnotherHostsJob) {
  const std::filesystem::path folder = base_ / ("hearth-job-" + std::to_string(getuid()) + "-abc");
  const pid_t first = StartSharer(folder);
  const pid_t second = StartSharer(folder);
  std::ofstream(folder / "segment") << "shared memory";
  Kill(first);
  { const JobFolder other(base_); }  // would remove what is abandoned
  EXPECT_TRUE(std::filesystem::exists(folder / "segment"));
  Kill(second);
  EXPECT_TRUE(Eventually([&] { return IsEmpty(); }));
}

TEST_F(JobFolderTest, ARankBesideTheLauncherLeavesTheFolderToIt) {
  const JobFolder folder(base_);
  const pid_t rank = StartSharer(folder.path());
  Kill(rank);
  const JobFolder other(base_);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "owner"));
}

TEST_F(JobFolderTest, GoesWhenItsOwnerIsKilled) {
  pid_t guard = 0;
  const pid_t owner = StartOwner(&guard);
  EXPECT_FALSE(IsEmpty());
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  EXPECT_TRUE(Eventually([&] { return IsEmpty(); }));
  EXPECT_TRUE(Eventually([&] { return !IsRunning(guard); }));
}

TEST_F(JobFolderTest, TheNextJobRemovesWhatNobodyOwns) {
  pid_t guard = 0;
  const pid_t owner = StartOwner(&guard);
  kill(guard, SIGKILL);
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  ASSERT_FALSE(IsEmpty());
  // The guard, which nobody here can wait for, may take a moment to die, and may until then hold
  // what it inherited.
  for (int i = 0; i < 1000 && !IsEmpty(); ++i) {
    { const JobFolder next(base_); }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(IsEmpty());
}

TEST_F(JobFolderTest, TheNextJobLeavesTheFoldersOfTheLiving) {
  const JobFolder living(base_);
  std::filesystem::create_directory(base_ / "hearth-job-other");
  // Its maker may be between creating the folder and locking it.
  const auto fresh = base_ / ("hearth-job-" + std::to_string(getuid()) + "-fresh");
  std::filesystem::create_directory(fresh);
  const auto old = base_ / ("hearth-job-" + std::to_string(getuid()) + "-old");
  std::filesystem::create_directory(old);
  std::filesystem::last_write_time(
      old, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  { const JobFolder next(base_); }
  EXPECT_TRUE(std::filesystem::exists(living.path()));
  EXPECT_TRUE(std::filesystem::exists(base_ / "hearth-job-other"));
  EXPECT_TRUE(std::filesystem::exists(fresh));
  EXPECT_FALSE(std::filesystem::exists(old));
}

TEST_F(JobFolderTest, NoPlaceIsAnError) { EXPECT_THROW(JobFolder("/proc"), IoError); }

TEST_F(JobFolderTest, OneWriterHoldsAnOutputFolder) {
  const auto output = base_ / "runs" / "a";
  const RunLock held(output);
  try {
    const RunLock second(output, milliseconds(50));
    FAIL() << "two writers";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind(output.string() + ": error: in use by process ", 0), 0u) << message;
    EXPECT_NE(message.find(std::to_string(getpid()) + " on host "), std::string::npos) << message;
  }
  EXPECT_NO_THROW(RunLock(base_ / "runs" / "b"));
}

TEST_F(JobFolderTest, ALockGoesWithItsKilledHolder) {
  const auto output = base_ / "run";
  const pid_t holder = fork();
  if (holder == 0) {
    const RunLock lock(output);
    pause();
  }
  ASSERT_TRUE(Eventually([&] {
    std::error_code error;
    return std::filesystem::exists(output / ".lock", error) &&
           std::filesystem::file_size(output / ".lock", error) > 0;
  }));
  std::thread killer([&] {
    std::this_thread::sleep_for(milliseconds(100));
    kill(holder, SIGKILL);
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NO_THROW(RunLock(output, std::chrono::seconds(60)));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(50));
  killer.join();
  waitpid(holder, nullptr, 0);
}

}  // namespace
}  // namespace hearth
