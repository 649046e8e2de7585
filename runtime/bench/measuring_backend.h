// A backend that times the ops that pass through it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/bench/op_profile.h"
#include "runtime/bench/op_timer.h"

namespace hearth {

struct MeasuredOp {
  OpProfile profile;
  double microseconds = 0;
};

// Hands every op on to another backend. While measuring, the first op of each kind and shape is
// also timed, on its own operands: it runs many times, and what it overwrites among its inputs is
// put back for each sample and for the run that counts. So whatever drives it computes with real
// data and gets real results, only slowly. Used by one thread.
class MeasuringBackend final : public KernelBackend {
 public:
  // `inner` must outlive it.
  MeasuringBackend(KernelBackend& inner, const OpProfiler& profiler, const OpTimerOptions& options);
  Device& device() override { return inner_.device(); }
  void MeasureMatmuls(bool on) override { inner_.MeasureMatmuls(on); }
  std::string MatmulTable() const override { return inner_.MatmulTable(); }
  void LoadMatmulTable(std::string_view text) override { inner_.LoadMatmulTable(text); }
  std::vector<std::string> TakeMatmulWarnings() override { return inner_.TakeMatmulWarnings(); }
  std::string WhyNoAttention(AttentionProvider provider) override {
    return inner_.WhyNoAttention(provider);
  }
  AttentionReport Attention() const override { return inner_.Attention(); }

  OpProfiler& profiler() { return profiler_; }
  void set_measuring(bool on) { measuring_ = on; }
  // In the order of their first use.
  const std::vector<MeasuredOp>& ops() const { return ops_; }
  // The ops since the last call, in order, as indices into ops().
  std::vector<size_t> TakeCalls();

 private:
  template <typename Args>
  void Run(Stream& stream, const Args& args, void (KernelBackend::*op)(Stream&, const Args&)) {
    const auto enqueue = [&inner = inner_, &stream, &args, op] { (inner.*op)(stream, args); };
    if (measuring_) Measure(stream, profiler_(args), enqueue);
    enqueue();
  }
  void Measure(Stream& stream, OpProfile profile, const std::function<void()>& enqueue);

  void DoGemm(Stream& stream, const GemmArgs& args) override {
    Run(stream, args, &KernelBackend::Gemm);
  }
  void DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) override {
    Run(stream, args, &KernelBackend::AttentionForward);
  }
  void DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) override {
    Run(stream, args, &KernelBackend::AttentionBackward);
  }
  void DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) override {
    Run(stream, args, &KernelBackend::RmsNormForward);
  }
  void DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) override {
    Run(stream, args, &KernelBackend::RmsNormBackward);
  }
  void DoRopeForward(Stream& stream, const RopeForwardArgs& args) override {
    Run(stream, args, &KernelBackend::RopeForward);
  }
  void DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) override {
    Run(stream, args, &KernelBackend::RopeBackward);
  }
  void DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) override {
    Run(stream, args, &KernelBackend::SwigluForward);
  }
  void DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) override {
    Run(stream, args, &KernelBackend::SwigluBackward);
  }
  void DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) override {
    Run(stream, args, &KernelBackend::EmbeddingForward);
  }
  void DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) override {
    Run(stream, args, &KernelBackend::EmbeddingBackward);
  }
  void DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) override {
    Run(stream, args, &KernelBackend::CrossEntropy);
  }
  void DoQuantize(Stream& stream, const QuantizeArgs& args) override {
    Run(stream, args, &KernelBackend::Quantize);
  }
  void DoTranspose(Stream& stream, const TransposeArgs& args) override {
    Run(stream, args, &KernelBackend::Transpose);
  }
  void DoAmax(Stream& stream, const AmaxArgs& args) override {
    Run(stream, args, &KernelBackend::Amax);
  }
  void DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) override {
    Run(stream, args, &KernelBackend::ScaleFromAmax);
  }
  void DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) override {
    Run(stream, args, &KernelBackend::CollectAmax);
  }
  void DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) override {
    Run(stream, args, &KernelBackend::UpdateScales);
  }
  void DoAdamw(Stream& stream, const AdamwArgs& args) override {
    Run(stream, args, &KernelBackend::Adamw);
  }
  void DoOrderedSum(Stream& stream, const OrderedSumArgs& args) override {
    Run(stream, args, &KernelBackend::OrderedSum);
  }
  void DoColumnSum(Stream& stream, const ColumnSumArgs& args) override {
    Run(stream, args, &KernelBackend::ColumnSum);
  }
  void DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) override {
    Run(stream, args, &KernelBackend::AddFixedPoint);
  }
  void DoClip(Stream& stream, const ClipArgs& args) override {
    Run(stream, args, &KernelBackend::Clip);
  }
  void DoCopy(Stream& stream, const CopyArgs& args) override {
    Run(stream, args, &KernelBackend::Copy);
  }
  void DoZero(Stream& stream, const ZeroArgs& args) override {
    Run(stream, args, &KernelBackend::Zero);
  }
  void DoCast(Stream& stream, const CastArgs& args) override {
    Run(stream, args, &KernelBackend::Cast);
  }

  KernelBackend& inner_;
  OpProfiler profiler_;
  OpTimer timer_;
  bool measuring_ = false;
  std::vector<MeasuredOp> ops_;
  std::map<std::string, size_t> index_;  // by op and shape
  std::vector<size_t> calls_;
};

}  // namespace hearth
