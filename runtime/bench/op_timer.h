// The time a device takes for some work, by the host's clock.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "kernels/api/kernel_backend.h"

namespace hearth {

struct OpTimerOptions {
  int repetitions = 5;                // samples, of which the median counts
  double sample_milliseconds = 4;     // short work is repeated until a sample takes so long
  std::chrono::seconds timeout{600};  // of one sample
};

class OpTimer {
 public:
  // `device` must outlive it.
  OpTimer(Device& device, const OpTimerOptions& options);

  // Microseconds of what `enqueue` puts on the stream, which must be idle; blocks. Before each
  // sample `prepare`, if there is one, may enqueue work that is not timed. With `is_repeatable`
  // false, work on the CPU is not repeated more than a few times within a sample: what it does to
  // its data would change its speed.
  double Microseconds(Stream& stream, const std::function<void()>& enqueue,
                      const std::function<void()>& prepare = {}, bool is_repeatable = true);

 private:
  double Sample(Stream& stream, const std::function<void()>& enqueue);

  Device& device_;
  const OpTimerOptions options_;
  std::unique_ptr<HostSignal> finished_;
  uint32_t sample_ = 0;
};

}  // namespace hearth
