#include "kernels/api/adamw.h"

#include <cuda_runtime.h>

#include "kernels/core/adamw_formula.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/cell.cuh"
#include "kernels/cuda/device/stochastic.cuh"

namespace hearth {

namespace {

using cuda::Cell;
using cuda::kCell;

constexpr int kThreads = 256;
constexpr int64_t kBlockElements = int64_t{kThreads} * kCell;

// The segments as a kernel parameter. Cells are counted in the parameter, from the multiple of
// kCell at or before its first element, so that a draw belongs to one cell.
constexpr int kSegments = 48;
struct Segments {
  int64_t begin[kSegments];
  int64_t count[kSegments];
  int64_t first_element[kSegments];
  int32_t end_block[kSegments];  // one behind the segment's last block in the grid
  uint32_t tensor_id[kSegments];
  float decay[kSegments];
  int number;
};

struct State {
  void* master;
  void* m;
  void* v;
  const void* gradient;
  void* weight;  // or null
  const UpdateControl* control;
  bool gradient_is_bf16;
  bool weight_is_bf16;
  bool is_aligned;  // all arrays, to 16 bytes
};

// A thread's cell: its elements [begin, end), the first of them at index at + begin of the arrays.
struct Place {
  int64_t at;
  int begin;
  int end;
  uint64_t group;  // of the cell's first four elements
  uint32_t tensor_id;
  float decay;
};

template <bool kVector, typename T>
__device__ void LoadFloats(const T* values, const Place& place, float (&out)[kCell]) {
  cuda::Unpack(cuda::LoadCell<kVector>(values + place.at, place.begin, place.end), out);
}

template <bool kVector, typename T>
__device__ void StoreFloats(T* to, const Place& place, const float (&values)[kCell]) {
  cuda::StoreCell<kVector>(to + place.at, cuda::Round<T>(values), place.begin, place.end);
}

template <bool kVector>
__device__ void StoreWeight(const State& state, const Place& place, const float (&master)[kCell]) {
  if (state.weight_is_bf16) {
    StoreFloats<kVector>(static_cast<BFloat16*>(state.weight), place, master);
  } else {
    StoreFloats<kVector>(static_cast<float*>(state.weight), place, master);
  }
}

// The draws of a cell for those of m, v and master that are rounded stochastically.
template <typename Master, typename M, typename V>
class Draws {
 public:
  __device__ Draws(const AdamwHyper& hyper, const Place& place) {
    if constexpr (kUses > 0) {
      int i = 0;
      const auto add = [&](RandomUse use) {
        for (int half = 0; half < 2; ++half, ++i) {
          const auto group = static_cast<uint32_t>(place.group);  // even
          words_[i][0] = group | static_cast<uint32_t>(half);
          words_[i][1] = static_cast<uint32_t>(place.group >> 32);
          words_[i][2] = hyper.step;
          words_[i][3] = place.tensor_id << 16 | static_cast<uint32_t>(use) << 12;
        }
      };
      if constexpr (kM) add(RandomUse::kMomentM);
      if constexpr (kV) add(RandomUse::kMomentV);
      if constexpr (kMaster) add(RandomUse::kMaster);
      cuda::PhiloxSideBySide(hyper.seed, words_);
    }
  }

  // What is stored of the values; they become what was stored.
  __device__ Cell<M> RoundM(float (&values)[kCell]) const { return Round<M, 0>(values); }
  __device__ Cell<V> RoundV(float (&values)[kCell]) const { return Round<V, kM>(values); }
  __device__ Cell<Master> RoundMaster(float (&values)[kCell]) const {
    return Round<Master, kM + kV>(values);
  }

 private:
  static constexpr int kM = sizeof(M) == 2 ? 1 : 0;
  static constexpr int kV = sizeof(V) == 2 ? 1 : 0;
  static constexpr int kMaster = sizeof(Master) == 2 ? 1 : 0;
  static constexpr int kUses = kM + kV + kMaster;

  template <typename T, int kUse>
  __device__ Cell<T> Round(float (&values)[kCell]) const {
    if constexpr (sizeof(T) == 4) {
      return cuda::Round<T>(values);
    } else {
      const Cell<T> cell =
          cuda::RoundStochastically(values, words_[2 * kUse], words_[2 * kUse + 1]);
      cuda::Unpack(cell, values);
      return cell;
    }
  }

  uint32_t words_[kUses == 0 ? 1 : 2 * kUses][4];
};

template <bool kVector, typename Master, typename M, typename V>
__device__ void UpdateCell(const AdamwHyper& hyper, const State& state, const Place& place) {
  // All loads are under way before the first is used; a skipped step wastes some of them.
  const uint32_t skip = state.control->skip;
  const float clip_factor = state.control->clip_factor;
  auto* masters = static_cast<Master*>(state.master) + place.at;
  auto* ms = static_cast<M*>(state.m) + place.at;
  auto* vs = static_cast<V*>(state.v) + place.at;
  const Cell<Master> old_master = cuda::LoadCell<kVector>(masters, place.begin, place.end);
  const Cell<M> old_m = cuda::LoadCell<kVector>(ms, place.begin, place.end);
  const Cell<V> old_v = cuda::LoadCell<kVector>(vs, place.begin, place.end);
  float g[kCell];
  if (state.gradient_is_bf16) {
    LoadFloats<kVector>(static_cast<const BFloat16*>(state.gradient), place, g);
  } else {
    LoadFloats<kVector>(static_cast<const float*>(state.gradient), place, g);
  }
  const Draws<Master, M, V> draws(hyper, place);
  float master[kCell];
  cuda::Unpack(old_master, master);
  if (skip != 0) {
    if (state.weight != nullptr) StoreWeight<kVector>(state, place, master);
    return;
  }
  float m[kCell];
  float v[kCell];
  cuda::Unpack(old_m, m);
  cuda::Unpack(old_v, v);
#pragma unroll
  for (int i = 0; i < kCell; ++i) {
    const AdamwMoments moments =
        AdamwMomentsUpdate(m[i], v[i], g[i], clip_factor, hyper.beta1, hyper.beta2);
    m[i] = moments.m;
    v[i] = moments.v;
  }
  cuda::StoreCell<kVector>(ms, draws.RoundM(m), place.begin, place.end);
  cuda::StoreCell<kVector>(vs, draws.RoundV(v), place.begin, place.end);
#pragma unroll
  for (int i = 0; i < kCell; ++i) {
    master[i] = AdamwMasterUpdate(master[i], m[i], v[i], hyper.learning_rate, hyper.epsilon,
                                  place.decay, hyper.inverse_bias1, hyper.inverse_sqrt_bias2);
  }
  cuda::StoreCell<kVector>(masters, draws.RoundMaster(master), place.begin, place.end);
  if (state.weight != nullptr) StoreWeight<kVector>(state, place, master);
}

// Floor: a read and a write of master, m and v, a read of the gradient, a write of the weight:
// 16 bytes per element when all are bf16, 20 with a master in fp32.
template <typename Master, typename M, typename V>
__global__ void __launch_bounds__(kThreads, 3)
    AdamwKernel(const __grid_constant__ Segments segments, const AdamwHyper hyper,
                const State state) {
  const int block = static_cast<int>(blockIdx.x);
  int segment = 0;
  while (block >= segments.end_block[segment]) ++segment;
  const int first_block = segment == 0 ? 0 : segments.end_block[segment - 1];
  const int64_t first_element = segments.first_element[segment];
  const int64_t count = segments.count[segment];
  const int64_t cell =
      first_element / kCell + int64_t{block - first_block} * kThreads + threadIdx.x;
  const int64_t behind_first = cell * kCell - first_element;  // may be negative in the first cell
  const Place place{.at = segments.begin[segment] + behind_first,
                    .begin = behind_first < 0 ? static_cast<int>(-behind_first) : 0,
                    .end = cuda::Within(count - behind_first, kCell),
                    .group = static_cast<uint64_t>(cell) * 2,
                    .tensor_id = segments.tensor_id[segment],
                    .decay = segments.decay[segment]};
  if (place.begin >= place.end) return;
  const bool is_whole = place.begin == 0 && place.end == kCell;
  if (is_whole && state.is_aligned && place.at % kCell == 0) {
    UpdateCell<true, Master, M, V>(hyper, state, place);
  } else {
    UpdateCell<false, Master, M, V>(hyper, state, place);
  }
}

template <typename Master, typename M, typename V>
void Launch(cudaStream_t stream, const AdamwArgs& args) {
  const auto is_aligned = [](const TensorView& view) { return cuda::IsAligned(view.data(), 16); };
  const State state{.master = args.master.data(),
                    .m = args.m.data(),
                    .v = args.v.data(),
                    .gradient = args.gradient.data(),
                    .weight = args.weight.data(),
                    .control = reinterpret_cast<const UpdateControl*>(args.control.as<int32_t>()),
                    .gradient_is_bf16 = args.gradient.dtype() == DType::kBF16,
                    .weight_is_bf16 = args.weight.dtype() == DType::kBF16,
                    .is_aligned = is_aligned(args.master) && is_aligned(args.m) &&
                                  is_aligned(args.v) && is_aligned(args.gradient) &&
                                  is_aligned(args.weight)};
  Segments segments{};
  int64_t blocks = 0;
  const auto launch = [&] {
    if (segments.number == 0) return;
    AdamwKernel<Master, M, V>
        <<<Narrow<int>(blocks), kThreads, 0, stream>>>(segments, args.hyper, state);
    CheckLaunch("adamw");
    segments = {};
    blocks = 0;
  };
  for (const AdamwSegment& segment : args.segments) {
    if (segment.count == 0) continue;
    if (segments.number == kSegments) launch();
    const int i = segments.number++;
    blocks += DivUp(segment.first_element % kCell + segment.count, kBlockElements);
    segments.begin[i] = segment.begin;
    segments.count[i] = segment.count;
    segments.first_element[i] = segment.first_element;
    segments.end_block[i] = Narrow<int>(blocks);
    segments.tensor_id[i] = segment.tensor_id;
    segments.decay[i] = segment.decay ? args.hyper.weight_decay : 0.0f;
  }
  launch();
}

template <typename Function>
void WithStorage(DType dtype, const Function& function) {
  dtype == DType::kF32 ? function(float{}) : function(BFloat16{});
}

}  // namespace

void CudaBackend::DoAdamw(Stream& stream, const AdamwArgs& args) {
  cudaStream_t native = NativeStream(stream);
  WithStorage(args.master.dtype(), [&](auto master) {
    WithStorage(args.m.dtype(), [&](auto m) {
      WithStorage(args.v.dtype(), [&](auto v) {
        Launch<decltype(master), decltype(m), decltype(v)>(native, args);
      });
    });
  });
}

}  // namespace hearth
