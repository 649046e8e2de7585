// Streams, events, signals and graphs of the CUDA backend.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/core/stream.h"

namespace hearth {

class CudaDevice;

class CudaEvent final : public Event {
 public:
  CudaEvent(const CudaDevice& device, bool timed);
  ~CudaEvent() override;
  bool Done() const override;
  double SecondsSince(const Event& earlier) const override;
  cudaEvent_t native() const { return event_; }

 private:
  const CudaDevice& device_;
  cudaEvent_t event_ = nullptr;
};

// The word lies in pinned memory that the GPU's command processor reads and writes.
struct CudaSignalWord {
  CudaSignalWord();
  ~CudaSignalWord();
  CudaSignalWord(const CudaSignalWord&) = delete;
  CudaSignalWord& operator=(const CudaSignalWord&) = delete;

  uint32_t* word = nullptr;
  std::mutex mutex;         // guards what follows, and every write by the host
  bool is_awaited = false;  // a stream was told to wait, up to ...
  uint32_t awaited = 0;     // ... the largest value
  std::exception_ptr error;
};

class CudaHostSignal final : public HostSignal {
 public:
  explicit CudaHostSignal(const CudaDevice& device);
  void Set(uint32_t value) override;
  uint32_t value() const override;
  void Fail(std::exception_ptr error) override;
  bool WaitFor(uint32_t value, std::chrono::milliseconds timeout) const override;

 private:
  friend class CudaStream;
  std::shared_ptr<CudaSignalWord> word_;
};

class CudaStream final : public Stream {
 public:
  CudaStream(const CudaDevice& device, std::string_view name);
  // Waits for the work; what may wait on a signal must have been set or failed before.
  ~CudaStream() override;

  const std::string& name() const override { return name_; }
  void Record(Event& event) override;
  void Wait(const Event& event) override;
  void Wait(const HostSignal& signal, uint32_t value) override;
  void Signal(HostSignal& signal, uint32_t value) override;
  void Synchronize(std::chrono::milliseconds timeout) override;

  cudaStream_t native() const { return stream_; }
  const CudaDevice& device() const { return device_; }

 private:
  friend class CudaDevice;
  // The error of a failed signal among those waited for since the last call; forgets them.
  std::exception_ptr TakeSignalError();

  const CudaDevice& device_;
  const std::string name_;
  cudaStream_t stream_ = nullptr;
  bool capturing_ = false;
  std::vector<std::shared_ptr<CudaSignalWord>> awaited_;
  std::vector<std::shared_ptr<CudaSignalWord>> written_;  // kept alive until the writes are done
};

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaGraph() override;
  void Launch(Stream& stream) override;

 private:
  cudaGraphExec_t graph_;
};

}  // namespace hearth
