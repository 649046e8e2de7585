// AdamW on the host, beside the state it updates, in step with device streams.
#pragma once

#include <chrono>

#include "kernels/host/host_adamw.h"
#include "runtime/optimizer/host_worker.h"

namespace hearth {

class HostOptimizer {
 public:
  // `wait_timeout`: how long an update may wait for the device.
  HostOptimizer(int threads, std::chrono::milliseconds wait_timeout)
      : adamw_(threads), worker_(wait_timeout) {}

  // For the work that is enqueued on worker(), one at a time.
  HostAdamw& adamw() { return adamw_; }
  HostWorker& worker() { return worker_; }

 private:
  HostAdamw adamw_;
  HostWorker worker_;  // last: its thread uses the rest
};

}  // namespace hearth
