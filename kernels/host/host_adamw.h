// The production AdamW for optimizer state in host memory: SIMD and threads, the same bits as the
// reference backend for every type, instruction set and number of threads.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "kernels/api/adamw.h"
#include "kernels/core/worker_pool.h"

namespace hearth {

class HostAdamw {
 public:
  explicit HostAdamw(int threads) : pool_(threads) {}

  int threads() const { return pool_.threads(); }
  // The instruction set in use, for reports.
  static std::string simd_target();

  // Runs AdamwArgs (kernels/api/adamw.h) in the calling thread and its helpers and returns when all
  // is written. All memory is host memory; the control words are read at the call, so whoever
  // computes them must have finished. With control.skip only `weight` and `amax` are written, as by
  // RoundMaster.
  // amax: empty, or one per segment: amax[i] = max(amax[i], max |weight|) over the segment's new
  // weights as written, NaN above all; needs args.weight. CheckError on wrong arguments. One call
  // at a time.
  void Update(const AdamwArgs& args, std::span<float> amax = {});

  // What Update does to `weight` and `amax`, without an update: the master weights rounded to
  // nearest. Only args.segments, args.master and args.weight are used; the weight is required. One
  // call at a time.
  void RoundMaster(const AdamwArgs& args, std::span<float> amax = {});

  // out = weight * scale rounded to nearest, saturating. weight: [n] f32 | bf16; out: [n] f8_e4m3 |
  // f8_e5m2, disjoint. `scale` is that of a ScaleRecord. One call at a time.
  void Quantize(const TensorView& weight, float scale, const TensorView& out);

 private:
  // Elements [begin, end) of a segment; returns the bits of their max |weight|.
  using PieceWork =
      std::function<uint32_t(const AdamwSegment& segment, int64_t begin, int64_t end)>;
  void ForEachSegmentPiece(const AdamwArgs& args, std::span<float> amax, const PieceWork& work);

  WorkerPool pool_;
};

}  // namespace hearth
