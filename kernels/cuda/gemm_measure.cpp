#include "kernels/cuda/gemm_measure.h"

#include <algorithm>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/measure.h"

namespace hearth {

namespace {

// The median of so many rounds; in a round every candidate has its turn, so that all of them see
// the same clocks.
constexpr int kRounds = 7;
// A turn of a short matmul is several runs, since an event's own time is about a microsecond.
constexpr double kTurnMicroseconds = 200;
constexpr int kMostRunsOfATurn = 20;
constexpr int64_t kAlignment = 256;
constexpr int64_t kScaleBytes = 16;

// Where the operands lie in the scratch memory.
struct ScratchLayout {
  int64_t a = 0;
  int64_t b = 0;
  int64_t addend = 0;
  int64_t out = 0;        // of the first candidate
  int64_t other_out = 0;  // of the others
  int64_t bias = 0;
  int64_t scales = 0;  // two
  int64_t flags = 0;   // i32 by candidate
  int64_t bytes = 0;
};

ScratchLayout MakeLayout(const GemmKey& key, int64_t candidates) {
  ScratchLayout layout;
  const auto add = [&layout](int64_t bytes) {
    const int64_t begin = layout.bytes;
    layout.bytes += RoundUp(bytes, kAlignment);
    return begin;
  };
  const int64_t out_bytes = key.m * key.n * SizeOf(key.out);
  layout.a = add(key.m * key.k * SizeOf(key.a));
  layout.b = add(key.n * key.k * SizeOf(key.b));
  if (key.accumulate) layout.addend = add(out_bytes);
  layout.out = add(out_bytes);
  layout.other_out = add(out_bytes);
  layout.bias = add(key.bias ? key.n * SizeOf(*key.bias) : 0);
  layout.scales = add(2 * kScaleBytes);
  layout.flags = add(candidates * static_cast<int64_t>(sizeof(int32_t)));
  return layout;
}

class Measurement {
 public:
  Measurement(const GemmLibrary& library, cudaStream_t stream, const Matmul& matmul,
              const MatmulWorkspace& workspace, const std::vector<GemmAlgorithm>& candidates)
      : library_(library),
        stream_(stream),
        key_(matmul.key()),
        workspace_(workspace),
        layout_(MakeLayout(key_, std::ssize(candidates))),
        scratch_(layout_.bytes),
        first_(key_, DenseLeading(key_), Operands(matmul.operands(), layout_.out)),
        other_(key_, DenseLeading(key_), Operands(matmul.operands(), layout_.other_out)) {
    if (scratch_) FillOperands();
    TryAll(candidates);
  }

  GemmAlgorithm Fastest() {
    if (candidates_.empty()) {
      throw DeviceError(Format("cuBLASLt runs none of the algorithms it proposes for the matmul {}",
                               Describe(key_)));
    }
    const int runs = RunsOfATurn();
    for (int round = 0; round < kRounds; ++round) {
      for (Candidate& candidate : candidates_) {
        candidate.microseconds.push_back(Turn(candidate.algorithm, runs));
      }
    }
    std::vector<GemmTiming> timings;
    for (Candidate& candidate : candidates_) {
      const auto middle = candidate.microseconds.begin() + kRounds / 2;
      std::nth_element(candidate.microseconds.begin(), middle, candidate.microseconds.end());
      timings.push_back({.microseconds = *middle, .same_bits = candidate.same_bits});
    }
    return candidates_[ChooseCandidate(timings)].algorithm;
  }

 private:
  struct Candidate {
    GemmAlgorithm algorithm;
    bool same_bits = false;
    std::vector<double> microseconds;
  };

  MatmulOperands Operands(const MatmulOperands& given, int64_t out) const {
    if (!scratch_) return given;
    return {.a = scratch_.At(layout_.a),
            .b = scratch_.At(layout_.b),
            .addend = scratch_.At(layout_.addend),
            .out = scratch_.At(out),
            .bias = scratch_.At(layout_.bias),
            .a_scale = scratch_.At(layout_.scales),
            .b_scale = scratch_.At(layout_.scales + kScaleBytes)};
  }

  TensorView View(int64_t offset, DType dtype, int64_t elements) const {
    return {scratch_.At(offset), dtype, Shape{elements}};
  }

  void FillOperands() const {
    const int64_t out_elements = key_.m * key_.n;
    LaunchRandomFill(stream_, View(layout_.a, key_.a, key_.m * key_.k), 1);
    LaunchRandomFill(stream_, View(layout_.b, key_.b, key_.n * key_.k), 2);
    if (key_.accumulate) LaunchRandomFill(stream_, View(layout_.addend, key_.out, out_elements), 3);
    if (key_.bias) LaunchRandomFill(stream_, View(layout_.bias, *key_.bias, key_.n), 4);
    LaunchRandomFill(stream_, View(layout_.scales, DType::kF32, 2 * kScaleBytes / 4), 5);
    CheckCuda(cudaMemsetAsync(scratch_.At(layout_.flags), 0,
                              static_cast<size_t>(layout_.bytes - layout_.flags), stream_),
              "clearing flags");
  }

  // Keeps the candidates that run, with whether their results are the first one's bit for bit.
  void TryAll(const std::vector<GemmAlgorithm>& candidates) {
    const int64_t out_elements = key_.m * key_.n;
    for (const GemmAlgorithm& algorithm : candidates) {
      const bool is_first = candidates_.empty();
      if (!library_.TryRun(stream_, is_first ? first_ : other_, algorithm, workspace_)) continue;
      if (!is_first && scratch_) {
        LaunchCompare(stream_, View(layout_.out, key_.out, out_elements),
                      View(layout_.other_out, key_.out, out_elements), Flag(candidates_.size()));
      }
      candidates_.push_back({.algorithm = algorithm, .same_bits = is_first, .microseconds = {}});
    }
    end_.Record(stream_);
    end_.Wait();
    if (!scratch_) return;
    std::vector<int32_t> flags(candidates_.size());
    CheckCuda(cudaMemcpyAsync(flags.data(), Flag(0), flags.size() * sizeof(int32_t),
                              cudaMemcpyDeviceToHost, stream_),
              "reading flags");
    end_.Record(stream_);
    end_.Wait();
    for (size_t i = 0; i < flags.size(); ++i) candidates_[i].same_bits = flags[i] == 0;
  }

  int32_t* Flag(size_t candidate) const {
    return static_cast<int32_t*>(scratch_.At(layout_.flags)) + candidate;
  }

  int RunsOfATurn() {
    const double once = std::max(Turn(candidates_[0].algorithm, 1), 1.0);
    return static_cast<int>(std::clamp(kTurnMicroseconds / once, 1.0, 1.0 * kMostRunsOfATurn));
  }

  // Of one run, in the mean over a turn.
  double Turn(const GemmAlgorithm& algorithm, int runs) {
    begin_.Record(stream_);
    for (int run = 0; run < runs; ++run) {
      library_.TryRun(stream_, other_, algorithm, workspace_);
    }
    end_.Record(stream_);
    end_.Wait();
    return end_.MicrosecondsSince(begin_) / runs;
  }

  const GemmLibrary& library_;
  const cudaStream_t stream_;
  const GemmKey key_;
  const MatmulWorkspace workspace_;
  const ScratchLayout layout_;
  const Scratch scratch_;
  const Matmul first_;
  const Matmul other_;
  TimingEvent begin_;
  TimingEvent end_;
  std::vector<Candidate> candidates_;
};

}  // namespace

GemmAlgorithm MeasureCandidates(const GemmLibrary& library, cudaStream_t stream,
                                const Matmul& matmul, const MatmulWorkspace& workspace,
                                const std::vector<GemmAlgorithm>& candidates) {
  return Measurement(library, stream, matmul, workspace, candidates).Fastest();
}

}  // namespace hearth
