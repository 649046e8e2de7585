#include "kernels/api/swiglu.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/sigmoid.cuh"
#include "kernels/cuda/produce.cuh"

namespace hearth {

namespace {

using cuda::kGroup;
using cuda::Pack;

// A second pass computes what the first one did bit by bit, in another kernel: every fused
// multiply-add is written as one, and nothing else can become one.

// Bytes per ffn element: 4 read; 2 written if the result is kept; FP8 and its transpose one each.
// With the tensor's own amax the second pass reads the result (2), or gate and up again (4).
template <typename T>
struct ForwardSource {
  using Storage = T;
  static constexpr int kParts = 1;
  static constexpr int kDepth = 4 / static_cast<int>(sizeof(T));  // 128 bytes in flight
  static constexpr int kBlocks = 3;
  struct Columns {};
  struct Raw {
    Pack<T, kGroup> gate, up;
  };

  const T* gate_up;
  T* out;  // may be null
  int64_t columns;

  template <bool kVector>
  __device__ Columns LoadColumns(int64_t, int64_t) const {
    return {};
  }
  template <bool kVector>
  __device__ Raw Load(int64_t row, int64_t column, int64_t count) const {
    const T* gate = gate_up + row * 2 * columns + column;
    return {cuda::LoadPack<kVector, kGroup>(gate, count),
            cuda::LoadPack<kVector, kGroup>(gate + columns, count)};
  }
  __device__ void Compute(const Columns&, const Raw& raw, int64_t,
                          Pack<T, kGroup> (&parts)[kParts]) const {
    float gate[kGroup];
    float up[kGroup];
    Unpack(raw.gate, gate);
    Unpack(raw.up, up);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) gate[i] = gate[i] * cuda::Sigmoid<T>(gate[i]) * up[i];
    parts[0] = cuda::Round<T>(gate);
  }
  template <bool kVector>
  __device__ void Store(int64_t row, int64_t column, int64_t count,
                        const Pack<T, kGroup> (&parts)[kParts]) const {
    if (out != nullptr) cuda::StorePack<kVector>(out + row * columns + column, parts[0], count);
  }
};

// Bytes per ffn element: 6 read; 4 written if the result is kept; 2 for its FP8 form and 2 for the
// transpose. With the tensor's own amax the second pass reads the result (4), or all input again
// (6), so that without the result in storage 16 bytes move, with it 18.
template <typename T>
struct BackwardSource {
  using Storage = T;
  static constexpr int kParts = 2;
  static constexpr int kDepth = 1;  // 96 or 192 bytes in flight
  static constexpr int kBlocks = sizeof(T) == 2 ? 3 : 2;
  struct Columns {};
  struct Raw {
    Pack<T, kGroup> gate, up, d_out;
  };

  const T* d_out;
  const T* gate_up;
  T* d_gate_up;  // may be null, or gate_up: a thread has read what it overwrites
  int64_t columns;

  template <bool kVector>
  __device__ Columns LoadColumns(int64_t, int64_t) const {
    return {};
  }
  template <bool kVector>
  __device__ Raw Load(int64_t row, int64_t column, int64_t count) const {
    const T* gate = gate_up + row * 2 * columns + column;
    return {cuda::LoadPack<kVector, kGroup>(gate, count),
            cuda::LoadPack<kVector, kGroup>(gate + columns, count),
            cuda::LoadPack<kVector, kGroup>(d_out + row * columns + column, count)};
  }
  __device__ void Compute(const Columns&, const Raw& raw, int64_t,
                          Pack<T, kGroup> (&parts)[kParts]) const {
    float gate[kGroup];
    float up[kGroup];
    float d[kGroup];
    Unpack(raw.gate, gate);
    Unpack(raw.up, up);
    Unpack(raw.d_out, d);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const float sigmoid = cuda::Sigmoid<T>(gate[i]);
      const float silu = gate[i] * sigmoid;
      gate[i] = d[i] * up[i] * fmaf(silu, 1.0f - sigmoid, sigmoid);
      up[i] = d[i] * silu;
    }
    parts[0] = cuda::Round<T>(gate);
    parts[1] = cuda::Round<T>(up);
  }
  template <bool kVector>
  __device__ void Store(int64_t row, int64_t column, int64_t count,
                        const Pack<T, kGroup> (&parts)[kParts]) const {
    if (d_gate_up == nullptr) return;
    T* d_gate = d_gate_up + row * 2 * columns + column;
    cuda::StorePack<kVector>(d_gate, parts[0], count);
    cuda::StorePack<kVector>(d_gate + columns, parts[1], count);
  }
};

template <typename T>
T* DataOrNull(const TensorView& view) {
  return view ? view.as<T>() : nullptr;
}

template <typename T>
void Forward(cudaStream_t stream, const SwigluForwardArgs& args) {
  const ForwardSource<T> source{.gate_up = args.gate_up.as<T>(),
                                .out = DataOrNull<T>(args.out),
                                .columns = args.gate_up.shape()[1] / 2};
  const bool vector = source.columns % kGroup == 0 && cuda::IsAligned(source.gate_up, 16) &&
                      cuda::IsAligned(source.out, 16);
  cuda::Produce(stream, source, args.gate_up.shape()[0], vector, args.out, args.quantized);
}

template <typename T>
void Backward(cudaStream_t stream, const SwigluBackwardArgs& args) {
  const BackwardSource<T> source{.d_out = args.d_out.as<T>(),
                                 .gate_up = args.gate_up.as<T>(),
                                 .d_gate_up = DataOrNull<T>(args.d_gate_up),
                                 .columns = args.gate_up.shape()[1] / 2};
  const bool vector = source.columns % kGroup == 0 && cuda::IsAligned(source.d_out, 16) &&
                      cuda::IsAligned(source.gate_up, 16) && cuda::IsAligned(source.d_gate_up, 16);
  cuda::Produce(stream, source, args.gate_up.shape()[0], vector, args.d_gate_up, args.quantized);
}

}  // namespace

void CudaBackend::DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) {
  if (args.gate_up.dtype() == DType::kF32) {
    Forward<float>(NativeStream(stream), args);
  } else {
    Forward<BFloat16>(NativeStream(stream), args);
  }
}

void CudaBackend::DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) {
  if (args.gate_up.dtype() == DType::kF32) {
    Backward<float>(NativeStream(stream), args);
  } else {
    Backward<BFloat16>(NativeStream(stream), args);
  }
}

}  // namespace hearth
