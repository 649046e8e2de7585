// Sees when collectives that wait for flags do not go on, and ends their waits.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/copy_engine/flag_board.h"
#include "kernels/core/stream.h"

namespace hearth {

// A collective that is about to be enqueued.
struct WatchedCollective {
  std::string_view operation;
  int64_t number = 0;
  int column = 0;
  uint32_t first_round = 0;
  uint32_t last_round = 0;
};

struct CollectiveWatchArgs {
  int rank = 0;
  int world = 1;
  std::vector<int> job_ranks;  // what messages call the ranks
  std::chrono::milliseconds timeout{0};
  // Fails with the first error; every collective's stream waits for value 0 of it.
  HostSignal* status = nullptr;
  // Both optional. Asked now and then, on the watch's thread: throws what is wrong.
  std::function<void()> check;
  // Called once when the collectives failed, on the watch's thread or on the one that calls Stop;
  // never throws or blocks.
  std::function<void()> abort;
};

// A thread of its own, which makes no CUDA call and so never waits for the device.
class CollectiveWatch {
 public:
  // The board must outlive the watch.
  CollectiveWatch(FlagBoard& board, CollectiveWatchArgs args);
  ~CollectiveWatch();

  // Before the first piece of its work is enqueued.
  void Begin(const WatchedCollective& collective);
  bool failed() const { return failed_; }
  // The last collective that this rank completed before anything failed.
  int64_t completed() const;
  // Fails what is in flight and waits for its waits to end. False when some work behind them did
  // not; then the board and the slots must be abandoned. Later calls do nothing.
  bool Stop() noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  void Run() noexcept;
  // With the lock held.
  void Forget() noexcept;  // the collectives that have ended
  void Look(Clock::time_point now);
  void Fail(const std::string& message) noexcept;
  bool Drained() const;
  int64_t DeviceCompleted() const;
  std::vector<uint32_t> Progress(const WatchedCollective& collective) const;
  std::set<int> Behind(const WatchedCollective& collective) const;

  FlagBoard& board_;
  const CollectiveWatchArgs args_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WatchedCollective> in_flight_;
  int64_t last_number_ = 0;
  uint32_t last_round_ = 0;
  std::vector<uint32_t> progress_;
  Clock::time_point moved_at_;
  int64_t completed_at_failure_ = 0;
  bool stopping_ = false;
  bool stopped_ = false;
  bool drained_ = true;
  std::atomic<bool> failed_{false};
  std::thread thread_;
};

}  // namespace hearth
