#include "runtime/bench/measuring_backend.h"

#include <utility>

namespace hearth {

namespace {

constexpr std::chrono::seconds kTimeout{600};

// Copies of tensors, to be put back.
class Snapshot {
 public:
  Snapshot(KernelBackend& backend, Stream& stream, const std::vector<TensorView>& tensors)
      : backend_(backend), stream_(stream) {
    for (const TensorView& tensor : tensors) {
      if (tensor.bytes() == 0) continue;
      Buffer buffer = backend.device().Allocate(tensor.bytes(), MemoryKind::kDevice);
      const TensorView copy = buffer.View(0, tensor.dtype(), tensor.shape());
      backend.Copy(stream, {.source = tensor, .destination = copy});
      copies_.push_back({tensor, copy, std::move(buffer)});
    }
  }
  void PutBack() const {
    for (const Kept& kept : copies_) {
      backend_.Copy(stream_, {.source = kept.copy, .destination = kept.tensor});
    }
  }

 private:
  struct Kept {
    TensorView tensor;
    TensorView copy;
    Buffer buffer;
  };
  KernelBackend& backend_;
  Stream& stream_;
  std::vector<Kept> copies_;
};

}  // namespace

MeasuringBackend::MeasuringBackend(KernelBackend& inner, const OpProfiler& profiler,
                                   const OpTimerOptions& options)
    : inner_(inner), profiler_(profiler), timer_(inner.device(), options) {}

std::vector<size_t> MeasuringBackend::TakeCalls() { return std::exchange(calls_, {}); }

void MeasuringBackend::Measure(Stream& stream, OpProfile profile,
                               const std::function<void()>& enqueue) {
  const auto [found, is_new] = index_.try_emplace(profile.op + ' ' + profile.shape, ops_.size());
  calls_.push_back(found->second);
  if (!is_new) return;
  // The op's inputs are ready, and nothing else runs beside it.
  stream.Synchronize(kTimeout);
  const Snapshot snapshot(inner_, stream, profile.updated);
  const auto put_back = [&snapshot] { snapshot.PutBack(); };
  const double microseconds =
      timer_.Microseconds(stream, enqueue, put_back, profile.updated.empty());
  put_back();
  stream.Synchronize(kTimeout);
  profile.updated.clear();
  ops_.push_back({.profile = std::move(profile), .microseconds = microseconds});
}

}  // namespace hearth
