#include "launcher/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kRetryInterval{50};

std::string ReadHolder(int file) {
  std::array<char, 512> text{};
  const ssize_t length = pread(file, text.data(), text.size(), 0);
  std::string holder(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  holder.resize(holder.find('\n') == std::string::npos ? holder.size() : holder.find('\n'));
  return holder.empty() ? "another run" : holder;
}

void WriteHolder(int file) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string holder = fmt::format("process {} on host {}\n", getpid(), host.data());
  // Only for the message of others; the lock itself holds without it.
  if (ftruncate(file, 0) != 0 || pwrite(file, holder.data(), holder.size(), 0) < 0) errno = 0;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& output_dir, std::chrono::milliseconds patience) {
  std::error_code error;
  std::filesystem::create_directories(output_dir, error);
  const std::filesystem::path path = output_dir / ".lock";
  file_ = error ? -1 : open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0) {
    throw IoError(fmt::format("{}: cannot be written: {}", output_dir.string(),
                              error ? error.message() : std::strerror(errno)));
  }
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (flock(file_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    if (reason == EWOULDBLOCK && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kRetryInterval);
      continue;
    }
    const std::string holder = ReadHolder(file_);
    close(file_);
    if (reason != EWOULDBLOCK) {
      throw IoError(fmt::format("{}: cannot be locked: {}", path.string(), std::strerror(reason)));
    }
    throw ConfigError(fmt::format(
        "{}: error: in use by {}; wait for that run to end, or give this one another output_dir",
        output_dir.string(), holder));
  }
  WriteHolder(file_);
}

RunLock::~RunLock() { close(file_); }

bool IsLocked(const std::filesystem::path& output_dir) {
  const int file = open((output_dir / ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  // Shared, and let go at once: a run that starts meanwhile tries again.
  const bool is_locked = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(file);
  return is_locked;
}

}  // namespace hearth
