#include "comm/copy_engine/collective_watch.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/api/transport.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kPeriod{20};
// Late flags of the others may undo a release, so it is repeated.
constexpr std::chrono::milliseconds kReleasePeriod{1};
// For work between the waits that were ended: kernels and copies that are under way.
constexpr std::chrono::seconds kDrainTimeout{5};

bool Reached(uint32_t word, uint32_t value) { return static_cast<int32_t>(word - value) >= 0; }

}  // namespace

CollectiveWatch::CollectiveWatch(FlagBoard& board, CollectiveWatchArgs args)
    : board_(board), args_(std::move(args)), thread_([this] { Run(); }) {}

CollectiveWatch::~CollectiveWatch() { Stop(); }

void CollectiveWatch::Begin(const WatchedCollective& collective) {
  std::lock_guard lock(mutex_);
  in_flight_.push_back(collective);
  last_number_ = collective.number;
  last_round_ = collective.last_round;
}

int64_t CollectiveWatch::DeviceCompleted() const {
  // The word has the low half of a number that is not far behind.
  const auto behind = static_cast<uint32_t>(last_number_) - board_.completed();
  return last_number_ - static_cast<int64_t>(behind);
}

int64_t CollectiveWatch::completed() const {
  std::lock_guard lock(mutex_);
  return failed_ ? completed_at_failure_ : DeviceCompleted();
}

bool CollectiveWatch::Drained() const { return DeviceCompleted() == last_number_; }

void CollectiveWatch::Forget() noexcept {
  const int64_t completed = DeviceCompleted();
  while (!in_flight_.empty() && in_flight_.front().number <= completed) in_flight_.pop_front();
}

bool CollectiveWatch::Stop() noexcept {
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return drained_;
    stopped_ = true;
    stopping_ = true;
    if (!failed_ && !Drained()) {
      Forget();
      Fail("the communicator ended while it was in flight");
    }
  }
  changed_.notify_all();
  thread_.join();
  return drained_;
}

void CollectiveWatch::Run() noexcept {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, failed_ ? kReleasePeriod : kPeriod, [this] { return stopping_; });
    if (stopping_) break;
    if (failed_) {
      board_.Release(last_round_);
    } else {
      Look(Clock::now());
    }
  }
  const Clock::time_point deadline = Clock::now() + kDrainTimeout;
  while (!Drained() && Clock::now() < deadline) {
    board_.Release(last_round_);
    changed_.wait_for(lock, kReleasePeriod);
  }
  drained_ = Drained();
}

void CollectiveWatch::Look(Clock::time_point now) {
  Forget();
  if (in_flight_.empty()) return;
  const WatchedCollective& current = in_flight_.front();
  if (args_.check) {
    try {
      args_.check();
    } catch (const std::exception& error) {
      return Fail(error.what());
    }
  }
  // A stream that has not come to the collective yet is not waiting for anybody.
  const bool started =
      Reached(board_.posted(Flag::kReady, current.column, args_.rank), current.first_round);
  std::vector<uint32_t> progress = Progress(current);
  if (!started || progress != progress_) {
    progress_ = std::move(progress);
    moved_at_ = now;
    return;
  }
  if (now - moved_at_ <= args_.timeout) return;
  const std::set<int> behind = Behind(current);
  if (behind.empty()) {
    return Fail(Format("its work on this rank's GPU did not end for {} ms", args_.timeout.count()));
  }
  Fail(NoAnswer(behind, args_.timeout).what());
}

std::vector<uint32_t> CollectiveWatch::Progress(const WatchedCollective& collective) const {
  std::vector<uint32_t> progress{static_cast<uint32_t>(collective.number)};
  for (int source = 0; source < args_.world; ++source) {
    for (Flag flag : {Flag::kReady, Flag::kDone}) {
      progress.push_back(board_.posted(flag, collective.column, source));
    }
  }
  return progress;
}

std::set<int> CollectiveWatch::Behind(const WatchedCollective& collective) const {
  const uint32_t ready = board_.posted(Flag::kReady, collective.column, args_.rank);
  const uint32_t done = board_.posted(Flag::kDone, collective.column, args_.rank);
  std::set<int> behind;
  for (int source = 0; source < args_.world; ++source) {
    const bool is_behind =
        !Reached(board_.posted(Flag::kReady, collective.column, source), ready) ||
        !Reached(board_.posted(Flag::kDone, collective.column, source), done);
    if (source == args_.rank || !is_behind) continue;
    behind.insert(args_.job_ranks[static_cast<size_t>(source)]);
  }
  return behind;
}

void CollectiveWatch::Fail(const std::string& message) noexcept {
  completed_at_failure_ = DeviceCompleted();
  try {
    std::string text = message;
    if (!in_flight_.empty()) {
      text = Format("{} #{}: {}", in_flight_.front().operation, in_flight_.front().number, message);
    }
    // Before the waits end, so that nobody takes what follows them for a result.
    args_.status->Fail(std::make_exception_ptr(CommError(text)));
  } catch (const std::exception&) {
    // Out of memory: the waits still end, and the job with them.
  }
  failed_ = true;
  board_.Release(last_round_);
  if (args_.abort) args_.abort();
}

}  // namespace hearth
