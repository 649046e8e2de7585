#include "kernels/api/copy.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/pack.cuh"

namespace hearth {

namespace {

constexpr int kThreads = 256;
// Groups of a thread, all in flight: 4 times 16 bytes of fp32.
constexpr int kGroups = 4;
// Elements of a group: 16 bytes of fp32, 8 of bf16, so that a warp reads and writes without gaps.
constexpr int kGroup = 4;
constexpr int64_t kBlockElements = int64_t{kThreads} * kGroups * kGroup;

// The bits of a group, moved by one instruction.
template <typename T>
using Words = std::conditional_t<sizeof(T) == 4, uint4, uint2>;

__device__ void Convert(const uint4& from, BFloat16* to) {
  const auto value = [](uint32_t bits) { return __uint_as_float(bits); };
  *reinterpret_cast<uint2*>(to) = {cuda::PackBFloat16(value(from.x), value(from.y)),
                                   cuda::PackBFloat16(value(from.z), value(from.w))};
}

__device__ void Convert(const uint2& from, float* to) {
  *reinterpret_cast<uint4*>(to) = {from.x << 16, from.x & 0xffff0000u, from.y << 16,
                                   from.y & 0xffff0000u};
}

// Floor: 6 bytes per element.
template <typename From, typename To>
__global__ void CastKernel(const From* source, To* destination, int64_t count, bool is_wide) {
  const int64_t first = blockIdx.x * kBlockElements + int64_t{threadIdx.x} * kGroup;
  constexpr int64_t kStride = int64_t{kThreads} * kGroup;
  if (is_wide && first + (kGroups - 1) * kStride + kGroup <= count) {
    Words<From> in[kGroups];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      in[group] = *reinterpret_cast<const Words<From>*>(source + first + group * kStride);
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      Convert(in[group], destination + first + group * kStride);
    }
    return;
  }
  for (int group = 0; group < kGroups; ++group) {
    for (int i = 0; i < kGroup; ++i) {
      const int64_t at = first + group * kStride + i;
      if (at < count) destination[at] = cuda::FromFloat<To>(ToFloat(source[at]));
    }
  }
}

template <typename From, typename To>
void LaunchCast(Stream& stream, const CastArgs& args) {
  const int64_t count = args.source.elements();
  if (count == 0) return;
  const From* source = args.source.as<From>();
  To* destination = args.destination.as<To>();
  const bool is_wide = cuda::IsAligned(source, kGroup * int64_t{sizeof(From)}) &&
                       cuda::IsAligned(destination, kGroup * int64_t{sizeof(To)});
  const int blocks = Narrow<int>(DivUp(count, kBlockElements));
  CastKernel<From, To>
      <<<blocks, kThreads, 0, NativeStream(stream)>>>(source, destination, count, is_wide);
  CheckLaunch("cast");
}

// From pinned to pinned host memory; the link's rate bounds it, so it needs few threads.
__global__ void HostCopyKernel(const std::byte* source, std::byte* destination, int64_t bytes,
                               bool is_wide) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  constexpr int64_t kWide = sizeof(uint4);
  const int64_t wide = is_wide ? bytes / kWide : 0;
  for (int64_t i = thread; i < wide; i += step) {
    reinterpret_cast<uint4*>(destination)[i] = reinterpret_cast<const uint4*>(source)[i];
  }
  for (int64_t i = wide * kWide + thread; i < bytes; i += step) destination[i] = source[i];
}

// The address by which a kernel reaches pinned host memory; null for any other memory.
std::byte* PinnedAddress(const TensorView& view) {
  cudaPointerAttributes attributes{};
  CheckCuda(cudaPointerGetAttributes(&attributes, view.data()), "copy");
  return attributes.type == cudaMemoryTypeHost ? static_cast<std::byte*>(attributes.devicePointer)
                                               : nullptr;
}

}  // namespace

void CudaBackend::DoCopy(Stream& stream, const CopyArgs& args) {
  if (args.source.bytes() == 0) return;
  const cudaStream_t native = NativeStream(stream);
  const std::byte* source = PinnedAddress(args.source);
  std::byte* destination = source != nullptr ? PinnedAddress(args.destination) : nullptr;
  if (destination != nullptr) {
    // The driver would copy between host addresses at once, in the calling thread, which then waits
    // for the stream.
    constexpr int kBlocks = 16;
    const bool is_wide =
        cuda::IsAligned(source, sizeof(uint4)) && cuda::IsAligned(destination, sizeof(uint4));
    HostCopyKernel<<<kBlocks, kThreads, 0, native>>>(source, destination, args.source.bytes(),
                                                     is_wide);
    CheckLaunch("copy");
    return;
  }
  // The driver finds out on which tier the ends are.
  CheckCuda(cudaMemcpyAsync(args.destination.data(), args.source.data(),
                            static_cast<size_t>(args.source.bytes()), cudaMemcpyDefault, native),
            "copy");
}

void CudaBackend::DoZero(Stream& stream, const ZeroArgs& args) {
  if (args.destination.bytes() == 0) return;
  CheckCuda(cudaMemsetAsync(args.destination.data(), 0,
                            static_cast<size_t>(args.destination.bytes()), NativeStream(stream)),
            "zero");
}

void CudaBackend::DoCast(Stream& stream, const CastArgs& args) {
  if (args.source.dtype() == DType::kF32) {
    LaunchCast<float, BFloat16>(stream, args);
  } else {
    LaunchCast<BFloat16, float>(stream, args);
  }
}

}  // namespace hearth
