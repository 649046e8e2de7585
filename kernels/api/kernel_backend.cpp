#include "kernels/api/kernel_backend.h"

#include "kernels/api/attention_table.h"
#include "kernels/api/gemm_table.h"

namespace hearth {

void KernelBackend::MeasureMatmuls(bool /*on*/) {}

std::string KernelBackend::MatmulTable() const { return {}; }

// Damage is found wherever the text goes.
void KernelBackend::LoadMatmulTable(std::string_view text) {
  ParseGemmTable(text);
  ParseAttentionTable(text);
}

std::vector<std::string> KernelBackend::TakeMatmulWarnings() { return {}; }

std::string KernelBackend::WhyNoAttention(AttentionProvider provider) {
  return provider == AttentionProvider::kCudnn ? "cuDNN runs on GPUs only" : "";
}

AttentionReport KernelBackend::Attention() const { return {.provider = "reference", .reason = ""}; }

void KernelBackend::Gemm(Stream& stream, const GemmArgs& args) {
  Validate(args);
  DoGemm(stream, args);
}

void KernelBackend::AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  Validate(args);
  DoAttentionForward(stream, args);
}

void KernelBackend::AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  Validate(args);
  DoAttentionBackward(stream, args);
}

void KernelBackend::RmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  Validate(args);
  DoRmsNormForward(stream, args);
}

void KernelBackend::RmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) {
  Validate(args);
  DoRmsNormBackward(stream, args);
}

void KernelBackend::RopeForward(Stream& stream, const RopeForwardArgs& args) {
  Validate(args);
  DoRopeForward(stream, args);
}

void KernelBackend::RopeBackward(Stream& stream, const RopeBackwardArgs& args) {
  Validate(args);
  DoRopeBackward(stream, args);
}

void KernelBackend::SwigluForward(Stream& stream, const SwigluForwardArgs& args) {
  Validate(args);
  DoSwigluForward(stream, args);
}

void KernelBackend::SwigluBackward(Stream& stream, const SwigluBackwardArgs& args) {
  Validate(args);
  DoSwigluBackward(stream, args);
}

void KernelBackend::EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  Validate(args);
  DoEmbeddingForward(stream, args);
}

void KernelBackend::EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  Validate(args);
  DoEmbeddingBackward(stream, args);
}

void KernelBackend::CrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  Validate(args);
  DoCrossEntropy(stream, args);
}

void KernelBackend::Quantize(Stream& stream, const QuantizeArgs& args) {
  Validate(args);
  DoQuantize(stream, args);
}

void KernelBackend::Transpose(Stream& stream, const TransposeArgs& args) {
  Validate(args);
  DoTranspose(stream, args);
}

void KernelBackend::Amax(Stream& stream, const AmaxArgs& args) {
  Validate(args);
  DoAmax(stream, args);
}

void KernelBackend::ScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) {
  Validate(args);
  DoScaleFromAmax(stream, args);
}

void KernelBackend::CollectAmax(Stream& stream, const CollectAmaxArgs& args) {
  Validate(args);
  DoCollectAmax(stream, args);
}

void KernelBackend::UpdateScales(Stream& stream, const UpdateScalesArgs& args) {
  Validate(args);
  DoUpdateScales(stream, args);
}

void KernelBackend::Adamw(Stream& stream, const AdamwArgs& args) {
  Validate(args);
  DoAdamw(stream, args);
}

void KernelBackend::OrderedSum(Stream& stream, const OrderedSumArgs& args) {
  Validate(args);
  DoOrderedSum(stream, args);
}

void KernelBackend::ColumnSum(Stream& stream, const ColumnSumArgs& args) {
  Validate(args);
  DoColumnSum(stream, args);
}

void KernelBackend::AddFixedPoint(Stream& stream, const FixedPointSumArgs& args) {
  Validate(args);
  DoAddFixedPoint(stream, args);
}

void KernelBackend::Clip(Stream& stream, const ClipArgs& args) {
  Validate(args);
  DoClip(stream, args);
}

void KernelBackend::Copy(Stream& stream, const CopyArgs& args) {
  Validate(args);
  DoCopy(stream, args);
}

void KernelBackend::Zero(Stream& stream, const ZeroArgs& args) {
  Validate(args);
  DoZero(stream, args);
}

void KernelBackend::Cast(Stream& stream, const CastArgs& args) {
  Validate(args);
  DoCast(stream, args);
}

}  // namespace hearth
