// Signals as things to be read instead of interruptions.
#pragma once

#include <signal.h>

#include <chrono>

namespace hearth {

// While it lives, requests to stop (SIGTERM, SIGINT, SIGUSR1, and SIGHUP unless that was ignored,
// as under nohup) wait here; the ends of children wake the waiter. For the only thread of a
// process.
class SignalInbox {
 public:
  SignalInbox();
  ~SignalInbox();
  SignalInbox(const SignalInbox&) = delete;
  SignalInbox& operator=(const SignalInbox&) = delete;

  // Waits for a signal, at most that long; returns how many requests to stop have come meanwhile.
  int Wait(std::chrono::milliseconds timeout);

 private:
  sigset_t before_;
  int file_ = -1;
};

}  // namespace hearth
