#include "launcher/message_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr size_t kMostWaiting = 64 << 10;  // bytes
constexpr size_t kMaxLine = 64 << 10;      // longer ones are passed on in pieces

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), length};
}

// All of it in one call, so that lines of several writers stay whole.
void Append(const std::filesystem::path& file, const std::string& text) {
  const int handle = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (handle < 0) return;
  [[maybe_unused]] const ssize_t written = write(handle, text.data(), text.size());
  close(handle);
}

}  // namespace

MessageLog::MessageLog(std::filesystem::path run_folder) : run_folder_(std::move(run_folder)) {}

void MessageLog::Take(std::string_view line) {
  constexpr std::string_view kName = "hearth: ";
  if (run_folder_.empty()) return;
  if (line.starts_with(kName) && waiting_.size() < kMostWaiting) {
    waiting_ += fmt::format("{} {}\n", UtcNow(), line.substr(kName.size()));
  }
  std::error_code error;
  if (waiting_.empty() || !std::filesystem::is_directory(run_folder_, error)) return;
  Append(run_folder_ / kMessagesFile, std::exchange(waiting_, ""));
}

ErrorTee::ErrorTee(MessageLog* log) : log_(log) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw IoError(fmt::format("no pipe for the ranks' messages: {}", std::strerror(errno)));
  }
  read_end_ = ends[0];
  write_end_ = ends[1];
  fcntl(read_end_, F_SETFL, O_NONBLOCK);
}

ErrorTee::~ErrorTee() {
  CloseWriteEnd();
  close(read_end_);
}

void ErrorTee::CloseWriteEnd() {
  if (write_end_ >= 0) close(write_end_);
  write_end_ = -1;
}

void ErrorTee::Drain() { DrainToEnd(std::chrono::milliseconds(0)); }

void ErrorTee::DrainToEnd(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::array<char, 65536> piece{};
  while (true) {
    const ssize_t length = read(read_end_, piece.data(), piece.size());
    if (length > 0) Take({piece.data(), static_cast<size_t>(length)});
    if (length == 0) break;
    if (length > 0 || errno == EINTR) continue;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    pollfd wait{.fd = read_end_, .events = POLLIN, .revents = 0};
    poll(&wait, 1, static_cast<int>(left.count()));
  }
  if (timeout.count() > 0 && !line_.empty()) Take("\n");  // nothing will complete it
}

void ErrorTee::Take(std::string_view text) {
  // At once and as it came: a line's end may be long in coming.
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (line_.size() < kMaxLine) line_ += text.substr(0, end);
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
    log_->Take(std::exchange(line_, ""));
  }
}

}  // namespace hearth
