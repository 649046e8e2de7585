#include "kernels/cuda/measure.h"

#include <chrono>
#include <thread>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

constexpr std::chrono::seconds kTimeout{120};

}  // namespace

TimingEvent::TimingEvent() { CheckCuda(cudaEventCreate(&event_), "creating an event"); }

TimingEvent::~TimingEvent() { cudaEventDestroy(event_); }

void TimingEvent::Record(cudaStream_t stream) {
  CheckCuda(cudaEventRecord(event_, stream), "an event");
}

void TimingEvent::Wait() const {
  const auto end = std::chrono::steady_clock::now() + kTimeout;
  while (true) {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaSuccess) return;
    if (status != cudaErrorNotReady) CheckCuda(status, "measuring algorithms");
    if (std::chrono::steady_clock::now() > end) {
      throw DeviceError(
          Format("measuring algorithms: the GPU did not finish within {} s", kTimeout.count()));
    }
    std::this_thread::yield();
  }
}

double TimingEvent::MicrosecondsSince(const TimingEvent& begin) const {
  float milliseconds = 0;
  CheckCuda(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "timing an algorithm");
  return 1e3 * static_cast<double>(milliseconds);
}

Scratch::Scratch(int64_t bytes) {
  if (cudaMalloc(&data_, static_cast<size_t>(bytes)) == cudaSuccess) return;
  data_ = nullptr;
  cudaGetLastError();  // an answer, not an error of what follows
}

Scratch::~Scratch() { cudaFree(data_); }

}  // namespace hearth
