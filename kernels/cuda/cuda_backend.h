// The ops on an NVIDIA GPU of compute capability 8.0 or later. One .cu file per family defines its
// functions; host code above sees only KernelBackend.
#pragma once

#include <memory>

#include "kernels/api/kernel_backend.h"
#include "kernels/cuda/cuda_device.h"

namespace hearth {

class CudaAttention;  // whose code computes attention
class CudaGemm;       // the table of measured matmul algorithms and the library's handle

class CudaBackend final : public KernelBackend {
 public:
  // `ordinal`: which of the visible GPUs. DeviceError when it cannot be used.
  explicit CudaBackend(int ordinal);
  ~CudaBackend() override;
  Device& device() override { return device_; }
  void MeasureMatmuls(bool on) override;
  std::string MatmulTable() const override;
  void LoadMatmulTable(std::string_view text) override;
  std::vector<std::string> TakeMatmulWarnings() override;
  std::string WhyNoAttention(AttentionProvider provider) override;
  AttentionReport Attention() const override;

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

  CudaDevice device_;
  std::unique_ptr<CudaGemm> gemm_;
  std::unique_ptr<CudaAttention> attention_;
};

}  // namespace hearth
