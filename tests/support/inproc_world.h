// Ranks as threads of one process, each with what a rank has: so that a sanitizer sees all of them.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "comm/communicators.h"
#include "kernels/api/kernel_backend.h"

namespace hearth::test {

struct InprocWorldOptions {
  int ranks = 2;
  int threads = 1;  // of each rank's backend
  // "" the backend under test; one of AvailableBackends(); "split": the CPU with device memory that
  // the host cannot touch.
  std::string backend;
  // Long enough for a sanitizer on a busy machine; short enough for a test that hangs.
  BootstrapOptions bootstrap{.init_timeout = std::chrono::seconds(60),
                             .collective_timeout = std::chrono::seconds(60)};
  CommunicatorOptions communicator{.collective_timeout = std::chrono::seconds(60)};
};

// What a rank's body works with. A stream of the body's own that still waits for a collective when
// the body throws delays the end of the test to the time-out; `stream` does not.
struct InprocRank {
  Bootstrap& bootstrap;
  KernelBackend& backend;
  Stream& stream;
  Communicator& communicator;
};

// Runs the body once per rank, each on a thread with a backend of its own, and returns
// when all have ended. The first exception of any rank ends the waits of the others and is thrown
// here.
void RunInprocWorld(const InprocWorldOptions& options,
                    const std::function<void(InprocRank& rank)>& body);

}  // namespace hearth::test
