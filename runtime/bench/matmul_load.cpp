#include "runtime/bench/matmul_load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "kernels/api/workspace.h"
#include "kernels/core/bfloat16.h"
#include "runtime/bench/links_timer.h"
#include "runtime/bench/median.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTimeout{60'000};
constexpr double kSeconds = 0.04;  // of matmuls in a row
constexpr int64_t kMostMatmuls = 1000;
constexpr int kRepetitions = 5;
// What runs beside them is to outlast them.
constexpr double kMargin = 1.3;

// In [-1, 1). Zeros would spare the multipliers most of their power.
BFloat16 Value(int64_t index) {
  const uint64_t x = (static_cast<uint64_t>(index) + 1) * 0x9E3779B97F4A7C15ull;
  return ToBFloat16(static_cast<float>(static_cast<int64_t>(x) >> 11) * 0x1p-52f);
}

}  // namespace

MatmulLoad::MatmulLoad(Bootstrap& bootstrap, KernelBackend& backend, int64_t size)
    : bootstrap_(bootstrap),
      backend_(backend),
      size_(size),
      compute_(backend.device().CreateStream("matmuls")),
      memory_(backend.device().Allocate(
          3 * size * size * SizeOf(DType::kBF16) + GemmWorkspaceBytes(), MemoryKind::kDevice)) {
  const Buffer row =
      backend.device().Allocate(size * SizeOf(DType::kBF16), MemoryKind::kPinnedHost);
  auto* values = reinterpret_cast<BFloat16*>(row.data());
  for (int64_t line = 0; line < 2 * size; ++line) {
    for (int64_t i = 0; i < size; ++i) values[i] = Value(line * size + i);
    backend.Copy(*compute_,
                 {.source = row.View(0, DType::kU8, {row.bytes()}),
                  .destination = memory_.View(line * row.bytes(), DType::kU8, {row.bytes()})});
    compute_->Synchronize(kTimeout);
  }
  Time(*compute_, 0, {});  // the library begins
  matmul_seconds_ = Time(*compute_, 0, {});
  matmuls_ = std::clamp(static_cast<int64_t>(std::ceil(kSeconds / matmul_seconds_)), int64_t{1},
                        kMostMatmuls);
}

double MatmulLoad::Slowdown(Stream& stream, double seconds, const std::function<void()>& enqueue) {
  const double all = matmul_seconds_ * static_cast<double>(matmuls_);
  const auto calls = static_cast<int64_t>(std::ceil(kMargin * all / seconds)) + 1;
  std::vector<double> alone;
  std::vector<double> beside;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    alone.push_back(Time(stream, 0, {}));
    beside.push_back(Time(stream, calls, enqueue));
  }
  return UpperMedian(beside) / UpperMedian(alone) - 1;
}

double MatmulLoad::Time(Stream& stream, int64_t calls, const std::function<void()>& enqueue) {
  const int64_t bytes = size_ * size_ * SizeOf(DType::kBF16);
  const GemmArgs args{
      .a = memory_.View(0, DType::kBF16, {size_, size_}),
      .b = memory_.View(bytes, DType::kBF16, {size_, size_}),
      .out = memory_.View(2 * bytes, DType::kBF16, {size_, size_}),
      .workspace = memory_.View(3 * bytes, DType::kU8, {memory_.bytes() - 3 * bytes})};
  bootstrap_.Barrier();
  int64_t enqueued = 0;
  if (calls > 0) {
    enqueue();
    ++enqueued;
  }
  const Clock::time_point begin = Clock::now();
  for (int64_t matmul = 1; matmul <= matmuls_; ++matmul) {
    backend_.Gemm(*compute_, args);
    for (; enqueued * matmuls_ < calls * matmul; ++enqueued) enqueue();
  }
  compute_->Synchronize(kTimeout);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  stream.Synchronize(kTimeout);
  return Largest(bootstrap_, seconds);
}

}  // namespace hearth
