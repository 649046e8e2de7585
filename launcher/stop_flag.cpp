#include "launcher/stop_flag.h"

#include <signal.h>

#include <atomic>

namespace hearth {

namespace {

// A signal handler can reach nothing but static storage.
std::atomic<bool> stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "written by a signal handler");

void RequestStop(int) { stop_requested = true; }

}  // namespace

void StopFlag::Install() {
  struct sigaction action {};
  action.sa_handler = RequestStop;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

bool StopFlag::IsRequested() { return stop_requested; }

}  // namespace hearth
