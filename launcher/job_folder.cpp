#include "launcher/job_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <string>
#include <system_error>
#include <thread>

#include "kernels/core/error.h"
#include "kernels/core/log.h"

namespace hearth {

namespace {

constexpr const char* kOwnerFile = "owner";
constexpr std::chrono::milliseconds kRemovalPause{50};
constexpr int kRemovalTries = 100;
// What a guard waits for; all else it has closed.
constexpr int kGuardFile = 3;
constexpr int kGuardStarter = 4;
constexpr int kGuardCopies = 10;
// Ranks of one host end long before others only when the job is lost.
constexpr int kStarterGraceMs = 30'000;
// Older than this and still without an owner: its maker was killed between two calls.
constexpr std::chrono::minutes kUnownedAge{2};

std::string FolderPrefix() { return fmt::format("hearth-job-{}-", getuid()); }

std::filesystem::path DefaultBase() {
  if (access("/dev/shm", W_OK | X_OK) == 0) return "/dev/shm";
  return std::filesystem::temp_directory_path();
}

// Whether the folder's owner is gone. Its lock is only as old as the process: no pid can be
// mistaken for another, not even from another container.
bool IsAbandoned(const std::filesystem::path& folder) {
  const int owner = open((folder / kOwnerFile).c_str(), O_RDWR | O_CLOEXEC);
  if (owner >= 0) {
    const bool unlocked = flock(owner, LOCK_EX | LOCK_NB) == 0;
    close(owner);
    return unlocked;
  }
  if (errno != ENOENT) return false;
  std::error_code error;
  const auto written = std::filesystem::last_write_time(folder, error);
  return !error && std::filesystem::file_time_type::clock::now() - written > kUnownedAge;
}

void RemoveAbandonedFolders(const std::filesystem::path& base) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(base, error)) {
    struct stat status {};
    if (entry.path().filename().string().rfind(FolderPrefix(), 0) != 0) continue;
    if (lstat(entry.path().c_str(), &status) != 0) continue;
    if (!S_ISDIR(status.st_mode) || status.st_uid != getuid()) continue;
    if (IsAbandoned(entry.path())) std::filesystem::remove_all(entry.path(), error);
  }
}

// Removes the folder, again if somebody was still writing into it.
void RemoveFolder(const std::filesystem::path& folder) {
  for (int i = 0; i < kRemovalTries; ++i) {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    if (!error && !std::filesystem::exists(folder, error)) return;
    std::this_thread::sleep_for(kRemovalPause);
  }
  LogWarning(fmt::format("{} cannot be removed", folder.string()));
}

// In the guard process: a life of its own, with nothing open but the files, which become
// kGuardFile and kGuardStarter.
void BecomeGuard(std::initializer_list<int> files) {
  setsid();  // no signal for the launcher's group or terminal reaches it
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "hearth-guard");
  // Nothing of the launcher's may stay open here: locks, and pipes whose readers wait for the end.
  const int null = open("/dev/null", O_RDWR);
  // Out of the way first: their numbers may be each other's.
  std::array<int, 2> copies{-1, -1};
  std::transform(files.begin(), files.end(), copies.begin(),
                 [](int file) { return fcntl(file, F_DUPFD, kGuardCopies); });
  for (int i = 0; i < static_cast<int>(copies.size()); ++i) {
    close(kGuardFile + i);
    if (copies[static_cast<size_t>(i)] >= 0) dup2(copies[static_cast<size_t>(i)], kGuardFile + i);
  }
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, standard);
  close_range(kGuardStarter + 1, ~0u, 0);
}

[[noreturn]] void RemoveFolderForGood(const std::filesystem::path& folder) {
  std::error_code error;
  while (std::filesystem::exists(folder, error)) {
    // Ranks that are being killed at this moment may still create files.
    std::this_thread::sleep_for(kRemovalPause);
    RemoveFolder(folder);
    std::this_thread::sleep_for(kRemovalPause);
  }
  _exit(0);
}

// The launcher's guard: waits until every writer of the pipe is gone.
[[noreturn]] void Guard(int pipe, const std::filesystem::path& folder) {
  BecomeGuard({pipe});
  char byte = 0;
  while (read(kGuardFile, &byte, 1) < 0 && errno == EINTR) continue;
  RemoveFolderForGood(folder);
}

// The guard on another host: waits until no rank shares the folder's lock, then for their starter.
[[noreturn]] void GuardSharedFolder(int owner, int starter, const std::filesystem::path& folder) {
  BecomeGuard({owner, starter});
  while (flock(kGuardFile, LOCK_EX) != 0 && errno == EINTR) continue;
  // orted 4.1 may hang in its own end when its connection was cut.
  pollfd wait{.fd = kGuardStarter, .events = POLLIN, .revents = 0};
  if (starter >= 0 && poll(&wait, 1, kStarterGraceMs) == 0) {
    syscall(SYS_pidfd_send_signal, kGuardStarter, SIGKILL, nullptr, 0);
  }
  RemoveFolderForGood(folder);
}

// The owner's file under its name, made and locked by this process; -1 when another has made it.
int MakeSharedOwner(const std::filesystem::path& folder) {
  // Locked before it gets its name: under that name it is never seen unlocked while we live.
  const std::filesystem::path unnamed = folder / fmt::format("owner.{}", getpid());
  const int owner = open(unnamed.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (owner < 0 || flock(owner, LOCK_SH | LOCK_NB) != 0) {
    throw IoError(fmt::format("{}: cannot be locked: {}", unnamed.string(), std::strerror(errno)));
  }
  const bool made = link(unnamed.c_str(), (folder / kOwnerFile).c_str()) == 0;
  unlink(unnamed.c_str());
  if (!made) close(owner);
  return made ? owner : -1;
}

}  // namespace

void ShareJobFolder(const std::filesystem::path& folder, pid_t starter) {
  RemoveAbandonedFolders(folder.parent_path());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: {}", folder.string(), error.message()));
  if (MakeSharedOwner(folder) < 0) {
    // Refused on the launcher's host: its own lock does not share. Kept open to the process's end.
    const int owner = open((folder / kOwnerFile).c_str(), O_RDWR | O_CLOEXEC);
    if (owner >= 0 && flock(owner, LOCK_SH | LOCK_NB) != 0) close(owner);
    return;
  }
  const int for_guard = open((folder / kOwnerFile).c_str(), O_RDWR | O_CLOEXEC);
  if (for_guard < 0) return;
  const int starter_file = starter > 0 ? static_cast<int>(syscall(SYS_pidfd_open, starter, 0)) : -1;
  if (fork() == 0) GuardSharedFolder(for_guard, starter_file, folder);
  close(for_guard);
  if (starter_file >= 0) close(starter_file);
}

JobFolder::JobFolder(const std::filesystem::path& base) {
  const std::filesystem::path parent = base.empty() ? DefaultBase() : base;
  RemoveAbandonedFolders(parent);
  std::string name = (parent / (FolderPrefix() + "XXXXXX")).string();
  if (mkdtemp(name.data()) == nullptr) {
    throw IoError(
        fmt::format("{}: no folder can be made there: {}", parent.string(), std::strerror(errno)));
  }
  path_ = name;
  // Locked before it gets its name: under that name it is never seen unlocked while we live.
  const std::filesystem::path unnamed = path_ / "owner.new";
  owner_lock_ = open(unnamed.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (owner_lock_ < 0 || flock(owner_lock_, LOCK_EX | LOCK_NB) != 0 ||
      rename(unnamed.c_str(), (path_ / kOwnerFile).c_str()) != 0) {
    const int error = errno;
    if (owner_lock_ >= 0) close(owner_lock_);
    RemoveFolder(path_);
    throw IoError(fmt::format("{}: cannot be locked: {}", name, std::strerror(error)));
  }
  StartGuard();
}

JobFolder::~JobFolder() {
  RemoveFolder(path_);
  if (guard_pipe_ >= 0) close(guard_pipe_);
  if (guard_ > 0) waitpid(guard_, nullptr, 0);
  close(owner_lock_);
}

void JobFolder::StartGuard() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  guard_ = fork();
  if (guard_ == 0) {
    close(ends[1]);
    Guard(ends[0], path_);
  }
  close(ends[0]);
  guard_pipe_ = ends[1];
}

}  // namespace hearth
