// The arithmetic of Hearth, one interface over all devices.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/adamw.h"
#include "kernels/api/attention.h"
#include "kernels/api/copy.h"
#include "kernels/api/cross_entropy.h"
#include "kernels/api/embedding.h"
#include "kernels/api/gemm.h"
#include "kernels/api/quantize.h"
#include "kernels/api/reduce.h"
#include "kernels/api/rms_norm.h"
#include "kernels/api/rope.h"
#include "kernels/api/swiglu.h"
#include "kernels/core/device.h"

namespace hearth {

// For people and reports.
struct AttentionReport {
  std::string provider;  // "reference", "own", "cudnn-91900"; several with '+'
  std::string reason;    // why that one; empty where there is no choice
};

// Every op checks its arguments once (CheckError), then enqueues its work on `stream` and returns.
// The views' memory must stay valid until that work has finished; results may be read by later work
// of the same stream, or after waiting for it. Results do not depend on the number of threads.
class KernelBackend {
 public:
  virtual ~KernelBackend() = default;
  virtual Device& device() = 0;

  void Gemm(Stream& stream, const GemmArgs& args);
  void AttentionForward(Stream& stream, const AttentionForwardArgs& args);
  void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args);
  void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args);
  void RmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args);
  void RopeForward(Stream& stream, const RopeForwardArgs& args);
  void RopeBackward(Stream& stream, const RopeBackwardArgs& args);
  void SwigluForward(Stream& stream, const SwigluForwardArgs& args);
  void SwigluBackward(Stream& stream, const SwigluBackwardArgs& args);
  void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args);
  void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args);
  void CrossEntropy(Stream& stream, const CrossEntropyArgs& args);
  void Quantize(Stream& stream, const QuantizeArgs& args);
  void Transpose(Stream& stream, const TransposeArgs& args);
  void Amax(Stream& stream, const AmaxArgs& args);
  void ScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args);
  void CollectAmax(Stream& stream, const CollectAmaxArgs& args);
  void UpdateScales(Stream& stream, const UpdateScalesArgs& args);
  void Adamw(Stream& stream, const AdamwArgs& args);
  void OrderedSum(Stream& stream, const OrderedSumArgs& args);
  void ColumnSum(Stream& stream, const ColumnSumArgs& args);
  void AddFixedPoint(Stream& stream, const FixedPointSumArgs& args);
  void Clip(Stream& stream, const ClipArgs& args);
  void Copy(Stream& stream, const CopyArgs& args);
  void Zero(Stream& stream, const ZeroArgs& args);
  void Cast(Stream& stream, const CastArgs& args);

  // Which of a library's algorithms computes which matmul, and whose code computes which attention,
  // decides last bits, so the choice is data: measured once on one rank, given to the others, kept
  // with plan and checkpoints (kernels/api/gemm_table.h, attention_table.h). A backend with nothing
  // to choose has an empty table.
  //
  // While on, a matmul or attention of a new kind blocks the host and times the candidates; where
  // there is no memory to spare matmuls work on the op's own operands, and an accumulated `out` is
  // unspecified afterwards. For a warm-up whose results nobody reads, before Device::Seal.
  virtual void MeasureMatmuls(bool on);
  // One line for each kind of matmul or attention met so far; equal tables give equal bits.
  virtual std::string MatmulTable() const;
  // Adds the entries of such a text; they win over those that are there. Entries of another library
  // or device are passed over with a warning. IoError, naming the line, when the text is damaged.
  virtual void LoadMatmulTable(std::string_view text);
  // What people should know about the choice since the last call: at most one line about entries
  // that were missing or of no use, in the backend's life.
  virtual std::vector<std::string> TakeMatmulWarnings();

  // Why attention of this provider cannot be had here; empty where it may.
  virtual std::string WhyNoAttention(AttentionProvider provider);
  // Whose attention has run so far.
  virtual AttentionReport Attention() const;

 private:
  virtual void DoGemm(Stream& stream, const GemmArgs& args) = 0;
  virtual void DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) = 0;
  virtual void DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) = 0;
  virtual void DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) = 0;
  virtual void DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) = 0;
  virtual void DoRopeForward(Stream& stream, const RopeForwardArgs& args) = 0;
  virtual void DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) = 0;
  virtual void DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) = 0;
  virtual void DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) = 0;
  virtual void DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) = 0;
  virtual void DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) = 0;
  virtual void DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) = 0;
  virtual void DoQuantize(Stream& stream, const QuantizeArgs& args) = 0;
  virtual void DoTranspose(Stream& stream, const TransposeArgs& args) = 0;
  virtual void DoAmax(Stream& stream, const AmaxArgs& args) = 0;
  virtual void DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) = 0;
  virtual void DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) = 0;
  virtual void DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) = 0;
  virtual void DoAdamw(Stream& stream, const AdamwArgs& args) = 0;
  virtual void DoOrderedSum(Stream& stream, const OrderedSumArgs& args) = 0;
  virtual void DoColumnSum(Stream& stream, const ColumnSumArgs& args) = 0;
  virtual void DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) = 0;
  virtual void DoClip(Stream& stream, const ClipArgs& args) = 0;
  virtual void DoCopy(Stream& stream, const CopyArgs& args) = 0;
  virtual void DoZero(Stream& stream, const ZeroArgs& args) = 0;
  virtual void DoCast(Stream& stream, const CastArgs& args) = 0;
};

}  // namespace hearth
