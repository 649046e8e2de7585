#include "comm/mpi/patience.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace hearth {

namespace {

// A peer that computes as fast as this rank answers within a few polls; each yield costs about a
// microsecond.
constexpr int kYields = 200;
// Later the sleeps are a small part of what has been waited for already, so they cost little time
// when it ends and few cycles until then.
constexpr std::chrono::microseconds kShortestSleep{50};
constexpr std::chrono::microseconds kLongestSleep{500};
constexpr int kSleepPart = 64;

}  // namespace

void Backoff::Pause() {
  if (++polls_ <= kYields) {
    std::this_thread::yield();
    return;
  }
  const auto part = std::chrono::duration_cast<std::chrono::microseconds>(waited()) / kSleepPart;
  std::this_thread::sleep_for(std::clamp(part, kShortestSleep, kLongestSleep));
}

void Backoff::Reset() {
  polls_ = 0;
  since_ = std::chrono::steady_clock::now();
}

std::chrono::steady_clock::duration Backoff::waited() const {
  return std::chrono::steady_clock::now() - since_;
}

ExitAfter::ExitAfter(std::chrono::milliseconds timeout, int exit_code, std::string message)
    : thread_([this, timeout, exit_code, message = std::move(message)] {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, timeout, [this] { return done_; })) return;
        std::fprintf(stderr, "hearth: %s\n", message.c_str());
        _exit(exit_code);
      }) {}

ExitAfter::~ExitAfter() {
  {
    std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

}  // namespace hearth
