#include "runtime/bench/op_timer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/core/check.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostRuns = 1000;
constexpr int kMostUnrepeatableRuns = 4;

double MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

}  // namespace

OpTimer::OpTimer(Device& device, const OpTimerOptions& options)
    : device_(device), options_(options), finished_(device.CreateHostSignal()) {
  CHECK(options.repetitions > 0 && options.sample_milliseconds > 0, "{} samples of {} ms",
        options.repetitions, options.sample_milliseconds);
}

// A stream's Synchronize may sleep between two looks, and the CPU backend needs the host's cores
// for its work: so the former where the work is the host's, else a signal without a pause.
double OpTimer::Sample(Stream& stream, const std::function<void()>& enqueue) {
  const auto start = Clock::now();
  enqueue();
  if (device_.kind() == DeviceType::kCpu) {
    stream.Synchronize(options_.timeout);
    return MicrosecondsSince(start);
  }
  stream.Signal(*finished_, ++sample_);
  while (static_cast<int32_t>(finished_->value() - sample_) < 0 &&
         Clock::now() - start < options_.timeout) {
  }
  const double microseconds = MicrosecondsSince(start);
  // Throws what the work threw, or that it does not end.
  stream.Synchronize(std::chrono::seconds(1));
  return microseconds;
}

double OpTimer::Microseconds(Stream& stream, const std::function<void()>& enqueue,
                             const std::function<void()>& prepare, bool is_repeatable) {
  const auto prepared = [&](const std::function<void()>& work) {
    if (prepare) {
      prepare();
      stream.Synchronize(options_.timeout);
    }
    return Sample(stream, work);
  };
  prepared(enqueue);  // whatever a first use prepares
  const double once = prepared(enqueue);
  const bool few = !is_repeatable && device_.kind() == DeviceType::kCpu;
  const auto runs = static_cast<int>(
      std::clamp(std::ceil(1e3 * options_.sample_milliseconds / std::max(once, 1e-3)), 1.0,
                 1.0 * (few ? kMostUnrepeatableRuns : kMostRuns)));
  std::vector<double> samples;
  if (runs == 1) {
    for (int i = 0; i < options_.repetitions; ++i) samples.push_back(prepared(enqueue));
  } else {
    // As one launch: the host may take longer to enqueue an op than the device to do it.
    const auto graph = device_.Capture(stream, [&] {
      for (int run = 0; run < runs; ++run) enqueue();
    });
    for (int i = 0; i < options_.repetitions; ++i) {
      samples.push_back(prepared([&] { graph->Launch(stream); }));
    }
  }
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle / runs;
}

}  // namespace hearth
