// The CPU as a device whose memory the host cannot touch: what a GPU's memory is to the runtime, on
// a machine without a GPU.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "kernels/api/kernel_backend.h"

namespace hearth::test {

// Device memory is mapped twice. The address that its buffers and views have allows no access, so
// that a host that reads or writes it dies of a segmentation fault at that very place; the backend
// works at the other address. New device memory is full of 0xff bytes.
class SplitMemoryDevice final : public Device {
 public:
  // Streams, events and pinned memory are `inner`'s, which must outlive this.
  explicit SplitMemoryDevice(Device& inner) : inner_(inner) {}

  // Not the CPU's: its memory is not the host's.
  DeviceType kind() const override { return DeviceType::kCuda; }
  std::string name() const override { return inner_.name() + " with memory of its own"; }
  std::optional<DeviceMemory> Memory() const override { return memory_; }
  // What Memory() says from now on; nothing before.
  void set_memory(DeviceMemory memory) { memory_ = std::move(memory); }
  Buffer Allocate(int64_t bytes, MemoryKind kind) override;
  void Seal() override;
  bool sealed() const { return sealed_; }
  int64_t allocated_bytes(MemoryKind kind) const override;
  std::unique_ptr<Stream> CreateStream(std::string_view name) override;
  std::unique_ptr<Event> CreateEvent() override;
  std::unique_ptr<Event> CreateTimedEvent() override;
  std::unique_ptr<HostSignal> CreateHostSignal() override;
  std::unique_ptr<Graph> Capture(Stream& stream, const std::function<void()>& enqueue) override;

  // The view at the address where it can be used. CheckError unless all of it lies in one buffer of
  // device memory, or, where that is allowed, of pinned memory. Absent views stay absent.
  TensorView Usable(const TensorView& view, bool may_be_pinned) const;

 private:
  struct Region {
    int64_t bytes = 0;
    std::byte* usable = nullptr;
    Buffer pinned;  // of `inner`; empty for device memory
  };
  static void Free(void* data, int64_t bytes, void* context) noexcept;
  Buffer AllocateDevice(int64_t bytes);

  Device& inner_;
  std::optional<DeviceMemory> memory_;
  mutable std::mutex mutex_;
  std::map<const std::byte*, Region> regions_;  // by the address that views have
  std::atomic<int64_t> device_bytes_{0};
  std::atomic<bool> sealed_{false};
};

// Every op takes device memory alone; Copy takes pinned memory too, and never the ordinary memory
// of the host. Its table of matmuls names the sizes met so far; one that is met for the first time
// when the device is sealed is a CheckError: the warm-up has missed it.
class SplitMemoryBackend final : public KernelBackend {
 public:
  explicit SplitMemoryBackend(int threads);
  ~SplitMemoryBackend() override;
  SplitMemoryDevice& device() override { return device_; }
  std::string MatmulTable() const override;
  void LoadMatmulTable(std::string_view text) override;

 private:
  void DoGemm(Stream& stream, const GemmArgs& args) override;
  void DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) override;
  void DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) override;
  void DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) override;
  void DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) override;
  void DoRopeForward(Stream& stream, const RopeForwardArgs& args) override;
  void DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) override;
  void DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) override;
  void DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) override;
  void DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) override;
  void DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) override;
  void DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) override;
  void DoQuantize(Stream& stream, const QuantizeArgs& args) override;
  void DoTranspose(Stream& stream, const TransposeArgs& args) override;
  void DoAmax(Stream& stream, const AmaxArgs& args) override;
  void DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) override;
  void DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) override;
  void DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) override;
  void DoAdamw(Stream& stream, const AdamwArgs& args) override;
  void DoOrderedSum(Stream& stream, const OrderedSumArgs& args) override;
  void DoColumnSum(Stream& stream, const ColumnSumArgs& args) override;
  void DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) override;
  void DoClip(Stream& stream, const ClipArgs& args) override;
  void DoCopy(Stream& stream, const CopyArgs& args) override;
  void DoZero(Stream& stream, const ZeroArgs& args) override;
  void DoCast(Stream& stream, const CastArgs& args) override;

  // Makes the views usable in place.
  template <typename... Views>
  void Translate(Views&... views) const {
    ((views = device_.Usable(views, false)), ...);
  }
  void Translate(QuantizedOutput& output) const;
  void Translate(QkNormWeights& norm) const;

  const std::unique_ptr<KernelBackend> inner_;
  SplitMemoryDevice device_;
  std::set<std::string> matmuls_;  // "m n k"
};

}  // namespace hearth::test
