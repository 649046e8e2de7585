// The reference backend: plain, exact, in a fixed order; a library matmul for speed.
#pragma once

#include "kernels/api/kernel_backend.h"
#include "kernels/cpu/cpu_device.h"

namespace hearth {

// One .cpp per op family defines the members below.
class CpuBackend final : public KernelBackend {
 public:
  explicit CpuBackend(int threads) : device_(threads) {}
  Device& device() override { return device_; }

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

  // Enqueues work on a stream of this device.
  template <typename Work>
  void Enqueue(Stream& stream, Work work) {
    dynamic_cast<CpuStream&>(stream).Enqueue(std::move(work));
  }

  CpuDevice device_;
};

}  // namespace hearth
