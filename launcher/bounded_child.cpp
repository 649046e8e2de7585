#include "launcher/bounded_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostBytes = 64 << 10;

// The answer, and behind it a byte that says that it is whole.
[[noreturn]] void Answer(const std::function<std::string()>& question, int pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    const std::string answer = question().substr(0, kMostBytes) + '\0';
    for (size_t sent = 0; sent < answer.size();) {
      const ssize_t count = write(pipe, answer.data() + sent, answer.size() - sent);
      if (count < 0 && errno != EINTR) _exit(1);
      if (count > 0) sent += static_cast<size_t>(count);
    }
  } catch (...) {
    _exit(1);
  }
  _exit(0);
}

std::string ReadUntil(int pipe, Clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> piece{};
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return text;
    pollfd ready{.fd = pipe, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, static_cast<int>(left)) <= 0) continue;
    const ssize_t count = read(pipe, piece.data(), piece.size());
    if (count == 0 || (count < 0 && errno != EINTR)) return text;
    if (count > 0) text.append(piece.data(), static_cast<size_t>(count));
  }
}

// One that hangs in the kernel cannot be waited for: it is left behind.
void Reap(pid_t child) {
  kill(child, SIGKILL);
  for (int attempt = 0; attempt < 50; ++attempt) {
    if (waitpid(child, nullptr, WNOHANG) != 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace

std::optional<std::string> AskChild(const std::function<std::string()>& question,
                                    std::chrono::milliseconds timeout) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  const Clock::time_point deadline = Clock::now() + timeout;
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    Answer(question, ends[1]);
  }
  close(ends[1]);
  std::string text;
  if (child > 0) {
    text = ReadUntil(ends[0], deadline);
    Reap(child);
  }
  close(ends[0]);
  if (text.empty() || text.back() != '\0') return std::nullopt;
  text.pop_back();
  return text;
}

}  // namespace hearth
