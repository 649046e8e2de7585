#include "launcher/message_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

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

ErrorTee::ErrorTee(MessageLog* log) : log_(log), pipe_("the ranks' messages") {}

void ErrorTee::Drain() { DrainToEnd(std::chrono::milliseconds(0)); }

void ErrorTee::DrainToEnd(std::chrono::milliseconds timeout) {
  pipe_.Drain(timeout, [this](std::string_view text) { Take(text); });
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
