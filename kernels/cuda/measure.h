// What measuring candidates on a GPU takes: events that time, and memory beside the run's.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace hearth {

class TimingEvent {
 public:
  TimingEvent();
  ~TimingEvent();
  TimingEvent(const TimingEvent&) = delete;
  TimingEvent& operator=(const TimingEvent&) = delete;

  void Record(cudaStream_t stream);
  // Blocks until the stream has passed it; DeviceError after two minutes.
  void Wait() const;
  // Both must have passed.
  double MicrosecondsSince(const TimingEvent& begin) const;

 private:
  cudaEvent_t event_ = nullptr;
};

// Device memory outside the run's: none when the GPU has no room.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  explicit operator bool() const { return data_ != nullptr; }
  void* At(int64_t offset) const { return static_cast<std::byte*>(data_) + offset; }

 private:
  void* data_ = nullptr;
};

}  // namespace hearth
