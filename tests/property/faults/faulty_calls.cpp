#include "tests/property/faults/faulty_calls.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <string_view>

namespace hearth::test {

namespace {

struct State {
  std::mutex mutex;
  bool armed = false;
  Fault fault = Fault::kNone;
  int64_t at = 0;
  int64_t calls = 0;
  bool struck = false;
  bool full = false;
  std::vector<FileCall> log;
};

State& TheState() {
  static State state;
  return state;
}

// What a call has to do instead of its work, or besides.
enum class Verdict { kWork, kHalf, kHalfAndDie, kFail };

bool Allocates(std::string_view name) {
  constexpr std::array<std::string_view, 6> kNames = {"open",  "write",  "fsync",
                                                      "mkdir", "rename", "ftruncate"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string PathOf(int descriptor) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const auto size = readlink(link.c_str(), path.data(), path.size());
  return {path.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

bool IsArmed() {
  const std::lock_guard lock(TheState().mutex);
  return TheState().armed;
}

// Counts the call; sets errno where it has to fail.
Verdict Meet(const FileCall& call) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  if (!state.armed) return Verdict::kWork;
  const bool moves_bytes = call.name == "write" || call.name == "read";
  const bool now = state.calls++ == state.at;
  state.log.push_back(call);
  if (!now) {
    if (!state.full || !Allocates(call.name)) return Verdict::kWork;
    errno = ENOSPC;
    return Verdict::kFail;
  }
  switch (state.fault) {
    case Fault::kNone:
      break;
    case Fault::kNoSpace:
      state.full = state.struck = true;
      errno = ENOSPC;
      if (call.name == "write") return Verdict::kHalf;
      return Allocates(call.name) ? Verdict::kFail : Verdict::kWork;
    case Fault::kIoError:
      state.struck = true;
      errno = EIO;
      return Verdict::kFail;
    case Fault::kShort:
      state.struck = moves_bytes;
      return moves_bytes ? Verdict::kHalf : Verdict::kWork;
    case Fault::kInterrupted:
      state.struck = moves_bytes;
      errno = EINTR;
      return moves_bytes ? Verdict::kFail : Verdict::kWork;
    case Fault::kKill:
      if (call.name != "write") raise(SIGKILL);
      return Verdict::kHalfAndDie;
  }
  return Verdict::kWork;
}

// Runs `work(bytes)` with what the verdict leaves of `count`.
template <typename Work>
ssize_t Move(const char* name, int descriptor, size_t count, const Work& work) {
  if (descriptor <= 2) return work(count);
  switch (Meet({name, PathOf(descriptor), ""})) {
    case Verdict::kWork:
      break;
    case Verdict::kHalf:
      return work((count + 1) / 2);
    case Verdict::kHalfAndDie:
      work((count + 1) / 2);
      raise(SIGKILL);
      break;
    case Verdict::kFail:
      return -1;
  }
  return work(count);
}

template <typename Work>
int Do(const FileCall& call, const Work& work) {
  return Meet(call) == Verdict::kFail ? -1 : work();
}

int Open(int folder, const char* path, int flags, mode_t mode) {
  const auto work = [&] {
    return static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
  };
  return (flags & O_CREAT) != 0 ? Do({"open", path, ""}, work) : work();
}

mode_t ModeOf(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

const char* Name(Fault fault) {
  constexpr std::array<const char*, 6> kNames = {"none",  "no space",    "I/O error",
                                                 "short", "interrupted", "killed"};
  return kNames[static_cast<size_t>(fault)];
}

FaultWindow::FaultWindow(Fault fault, int64_t at) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.armed = true;
  state.fault = fault;
  state.at = at;
  state.calls = 0;
  state.struck = state.full = false;
  state.log.clear();
}

FaultWindow::~FaultWindow() {
  const std::lock_guard lock(TheState().mutex);
  TheState().armed = false;
}

int64_t FaultWindow::calls() const {
  const std::lock_guard lock(TheState().mutex);
  return TheState().calls;
}

bool FaultWindow::has_struck() const {
  const std::lock_guard lock(TheState().mutex);
  return TheState().struck;
}

std::vector<FileCall> FaultWindow::log() const {
  const std::lock_guard lock(TheState().mutex);
  return TheState().log;
}

}  // namespace hearth::test

// The calls themselves. What the code under test uses of the C library's file functions is here;
// the first test of the program checks that they are met.

using hearth::test::Do;
using hearth::test::IsArmed;
using hearth::test::ModeOf;
using hearth::test::Move;
using hearth::test::Open;
using hearth::test::PathOf;

extern "C" {

ssize_t write(int descriptor, const void* data, size_t count) {
  return Move("write", descriptor, count,
              [&](size_t bytes) { return syscall(SYS_write, descriptor, data, bytes); });
}

ssize_t pwrite(int descriptor, const void* data, size_t count, off_t offset) {
  return Move("write", descriptor, count,
              [&](size_t bytes) { return syscall(SYS_pwrite64, descriptor, data, bytes, offset); });
}

ssize_t read(int descriptor, void* data, size_t count) {
  return Move("read", descriptor, count,
              [&](size_t bytes) { return syscall(SYS_read, descriptor, data, bytes); });
}

ssize_t pread(int descriptor, void* data, size_t count, off_t offset) {
  return Move("read", descriptor, count,
              [&](size_t bytes) { return syscall(SYS_pread64, descriptor, data, bytes, offset); });
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(folder, path, flags, mode);
}

// The descriptor is closed in any case, as Linux does.
int close(int descriptor) {
  const auto work = [&] { return static_cast<int>(syscall(SYS_close, descriptor)); };
  if (descriptor <= 2) return work();
  const std::string path = PathOf(descriptor);
  if (work() != 0) return -1;
  return Do({"close", path, ""}, [] { return 0; });
}

// While faults are planned it only counts: no test here pulls the plug, and waiting takes most of
// the time.
int fsync(int descriptor) {
  return Do({"fsync", PathOf(descriptor), ""},
            [&] { return IsArmed() ? 0 : static_cast<int>(syscall(SYS_fsync, descriptor)); });
}

int ftruncate(int descriptor, off_t size) {
  return Do({"ftruncate", PathOf(descriptor), ""},
            [&] { return static_cast<int>(syscall(SYS_ftruncate, descriptor, size)); });
}

int rename(const char* from, const char* to) {
  return Do({"rename", to, from}, [&] {
    return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
  });
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  return Do({"rename", to, from}, [&] {
    return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
  });
}

int mkdir(const char* path, mode_t mode) {
  return Do({"mkdir", path, ""},
            [&] { return static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode)); });
}

int unlink(const char* path) {
  return Do({"unlink", path, ""},
            [&] { return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0)); });
}

int unlinkat(int folder, const char* path, int flags) {
  return Do({"unlink", path, ""},
            [&] { return static_cast<int>(syscall(SYS_unlinkat, folder, path, flags)); });
}

int rmdir(const char* path) {
  return Do({"unlink", path, ""},
            [&] { return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)); });
}

}  // extern "C"
