#include "launcher/running_command.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <utility>

#include "kernels/core/error.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostBytes = 64 << 10;
constexpr std::chrono::milliseconds kPollInterval{5};

}  // namespace

RunningCommand::RunningCommand(ProcessOptions options)
    : output_(memfd_create("command", MFD_CLOEXEC)) {
  options.output = fmt::format("/proc/self/fd/{}", output_);
  try {
    pid_ = StartProcess(options);
    end_.started = true;
  } catch (const IoError& error) {
    end_.output = error.what();
  }
}

RunningCommand::~RunningCommand() {
  if (pid_ > 0) Kill();
  if (output_ >= 0) close(output_);
}

bool RunningCommand::Poll() {
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
    pid_ = -1;
    end_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return pid_ <= 0;
}

int64_t RunningCommand::Written() const {
  struct stat file {};
  return fstat(output_, &file) == 0 ? static_cast<int64_t>(file.st_size) : 0;
}

CommandEnd RunningCommand::Finish() {
  if (!Poll()) {
    end_.timed_out = true;
    Kill();
  }
  if (!end_.started) return end_;
  std::array<char, kMostBytes> text{};
  const ssize_t count = pread(output_, text.data(), text.size(), 0);
  if (count > 0) end_.output.assign(text.data(), static_cast<size_t>(count));
  return end_;
}

void RunningCommand::Kill() {
  kill(-pid_, SIGKILL);
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(1);
  while (waitpid(pid_, nullptr, WNOHANG) == 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(kPollInterval);
  }
  pid_ = -1;
}

CommandEnd RunWhileItSpeaks(const ProcessOptions& options, std::chrono::milliseconds silence) {
  RunningCommand command(options);
  int64_t written = 0;
  Clock::time_point deadline = Clock::now() + silence;
  while (!command.Poll() && Clock::now() < deadline) {
    std::this_thread::sleep_for(kPollInterval);
    const int64_t now_written = command.Written();
    // One that talks without end is no better than a silent one.
    if (now_written == written || now_written > static_cast<int64_t>(kMostBytes)) continue;
    written = now_written;
    deadline = Clock::now() + silence;
  }
  return command.Finish();
}

}  // namespace hearth
