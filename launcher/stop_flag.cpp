#include "launcher/stop_flag.h"

#include <signal.h>

#include <atomic>

namespace hearth {

namespace {

// A signal handler can reach nothing but static storage.
std::atomic<bool> stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "written by a signal handler");

void RequestStop(int) { stop_requested = true; }

void Handle(int number) {
  struct sigaction action {};
  action.sa_handler = RequestStop;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

}  // namespace

void StopFlag::Install() { Handle(SIGUSR1); }

void StopFlag::InstallForTermination() { Handle(SIGTERM); }

bool StopFlag::IsRequested() { return stop_requested; }

}  // namespace hearth
