#include "launcher/heartbeat_relay.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/host_name.h"
#include "launcher/rank_report.h"

namespace hearth {

namespace {

// How soon an end is noticed.
constexpr std::chrono::milliseconds kLook{20};

}  // namespace

std::string JobToken(const std::filesystem::path& job_folder) {
  return job_folder.filename().string();
}

HeartbeatRelay::HeartbeatRelay(const std::filesystem::path& job_folder, int rank,
                               std::chrono::milliseconds period)
    : page_(job_folder / fmt::format("heartbeat-{}", rank)),
      token_(JobToken(job_folder)),
      host_(HostName()),
      rank_(rank),
      board_(HeartbeatBoard::Create(page_, 1)) {
  // Signals are the business of the thread that computes.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this, period] { Run(period); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

HeartbeatRelay::~HeartbeatRelay() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  Send();
}

void HeartbeatRelay::Run(std::chrono::milliseconds period) {
  auto last_sent = std::chrono::steady_clock::time_point();
  RankState last_state = RankState::kAbsent;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const RankState state = ReadHeartbeat(board_, 0).state;
    const auto now = std::chrono::steady_clock::now();
    if (state != last_state || now - last_sent >= period) {
      Send();
      last_sent = now;
      last_state = state;
    }
    changed_.wait_for(lock, std::min(period, kLook), [&] { return stopping_; });
  }
}

void HeartbeatRelay::Send() {
  RankReport report{.rank = rank_, .reading = ReadHeartbeat(board_, 0)};
  if (report.reading.state == RankState::kAbsent) return;
  report.reading.host = host_;
  const std::string line = FormatRankReport(token_, report);
  // One write, so that nothing of the rank's other threads gets between; a launcher that is gone
  // needs no report.
  while (write(STDERR_FILENO, line.data(), line.size()) < 0 && errno == EINTR) continue;
}

}  // namespace hearth
