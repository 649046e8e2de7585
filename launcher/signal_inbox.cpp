#include "launcher/signal_inbox.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/core/check.h"

namespace hearth {

SignalInbox::SignalInbox() {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) sigaddset(&taken, number);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&taken, SIGHUP);
  sigprocmask(SIG_BLOCK, &taken, &before_);
  file_ = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
  CHECK(file_ >= 0, "signalfd: {}", std::strerror(errno));
}

SignalInbox::~SignalInbox() {
  close(file_);
  sigprocmask(SIG_SETMASK, &before_, nullptr);
}

int SignalInbox::Wait(std::chrono::milliseconds timeout) {
  pollfd inbox{.fd = file_, .events = POLLIN, .revents = 0};
  poll(&inbox, 1, static_cast<int>(timeout.count()));
  int requests = 0;
  signalfd_siginfo signal{};
  while (read(file_, &signal, sizeof(signal)) == sizeof(signal)) {
    if (static_cast<int>(signal.ssi_signo) != SIGCHLD) ++requests;
  }
  return requests;
}

}  // namespace hearth
