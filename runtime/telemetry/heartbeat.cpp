#include "runtime/telemetry/heartbeat.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace hearth {

Heartbeat::Heartbeat(const std::filesystem::path& board, int rank, std::chrono::milliseconds period)
    : board_(std::make_unique<HeartbeatBoard>(HeartbeatBoard::Open(board))),
      slot_(&board_->slot(rank)) {
  slot_->pid = getpid();
  slot_->state.store(static_cast<int64_t>(RankState::kRunning), std::memory_order_release);
  // Signals are the business of the thread that computes.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this, period] { Beat(period); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Heartbeat::~Heartbeat() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Heartbeat::Progress(int64_t step, RunPhase phase, int64_t collectives) noexcept {
  if (slot_ == nullptr) return;
  slot_->step = step;
  slot_->phase = static_cast<int64_t>(phase);
  if (collectives > 0) slot_->collectives = collectives;
  ++slot_->progress;
}

void Heartbeat::Finish() noexcept { End(RankState::kFinished, 0, ""); }

void Heartbeat::Fail(int exit_code, std::string_view message) noexcept {
  End(RankState::kFailed, exit_code, message);
}

void Heartbeat::End(RankState state, int exit_code, std::string_view message) noexcept {
  if (slot_ == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (ended_) return;
  ended_ = true;
  slot_->exit_code = exit_code;
  const size_t length = std::min(message.size(), slot_->message.size() - 1);
  std::memcpy(slot_->message.data(), message.data(), length);
  slot_->ended_ns = std::chrono::steady_clock::now().time_since_epoch().count();
  slot_->state.store(static_cast<int64_t>(state), std::memory_order_release);
}

void Heartbeat::Beat(std::chrono::milliseconds period) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    ++slot_->beats;
    changed_.wait_for(lock, period, [&] { return stopping_; });
  }
}

}  // namespace hearth
