#include "runtime/bench/host_adamw_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "kernels/host/host_adamw.h"
#include "runtime/bench/median.h"

namespace hearth {

namespace {

// Elements that a thread works on at a time.
constexpr int64_t kPieceElements = 65536;

struct StateTypes {
  DType m, v, master, gradient, weight;
};

constexpr StateTypes kCases[] = {
    {DType::kF32, DType::kF32, DType::kF32, DType::kF32, DType::kF32},
    {DType::kBF16, DType::kBF16, DType::kF32, DType::kBF16, DType::kBF16},
    {DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16},
};

double MillisecondsOf(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Memory for the largest case, reused by all; the threads that will use it touch it first.
class Arrays {
 public:
  static constexpr int kCount = 5;
  Arrays(Device& device, WorkerPool& pool, int64_t elements) : elements_(elements) {
    for (Buffer& buffer : buffers_) {
      buffer = device.Allocate(elements * SizeOf(DType::kF32), MemoryKind::kPinnedHost);
      ForEachPiece(pool, elements, [&](int64_t begin, int64_t count) {
        std::memset(buffer.data() + begin * 4, 0, static_cast<size_t>(count) * 4);
      });
    }
  }
  TensorView View(int index, DType dtype) const {
    return buffers_[index].View(0, dtype, {elements_});
  }
  template <typename Work>
  static void ForEachPiece(WorkerPool& pool, int64_t elements, const Work& work) {
    pool.ForEach(DivUp(elements, kPieceElements), [&](int64_t index) {
      const int64_t begin = index * kPieceElements;
      work(begin, std::min(kPieceElements, elements - begin));
    });
  }

 private:
  int64_t elements_;
  Buffer buffers_[kCount];
};

void Triad(WorkerPool& pool, const Arrays& arrays, int64_t elements) {
  // Into the array of the new weights, which updates only write.
  float* a = arrays.View(4, DType::kF32).as<float>();
  const float* b = arrays.View(0, DType::kF32).as<float>();
  const float* c = arrays.View(1, DType::kF32).as<float>();
  Arrays::ForEachPiece(pool, elements, [&](int64_t begin, int64_t count) {
    for (int64_t i = begin; i < begin + count; ++i) a[i] = b[i] + 3.0f * c[i];
  });
}

void AddInPlace(WorkerPool& pool, const Arrays& arrays, int64_t elements) {
  float* a = arrays.View(4, DType::kF32).as<float>();
  const float* b = arrays.View(0, DType::kF32).as<float>();
  Arrays::ForEachPiece(pool, elements, [&](int64_t begin, int64_t count) {
    for (int64_t i = begin; i < begin + count; ++i) a[i] = 0.5f * a[i] + b[i];
  });
}

// Values like those of a run: small gradients of both signs, positive second moments.
void Fill(WorkerPool& pool, const Arrays& arrays, const StateTypes& types) {
  const DType dtypes[] = {types.gradient, types.m, types.v, types.master, types.weight};
  for (int index = 0; index < Arrays::kCount; ++index) {
    const TensorView view = arrays.View(index, dtypes[index]);
    Arrays::ForEachPiece(pool, view.elements(), [&](int64_t begin, int64_t count) {
      for (int64_t i = begin; i < begin + count; ++i) {
        const float sign = i % 3 == 0 && index != 2 ? -1.0f : 1.0f;
        const float value = sign * (1e-3f + 1e-6f * static_cast<float>(i % 1009));
        if (view.dtype() == DType::kF32) {
          view.as<float>()[i] = value;
        } else {
          view.as<BFloat16>()[i] = ToBFloat16(value);
        }
      }
    });
  }
}

AdamwArgs MakeArgs(const Arrays& arrays, const StateTypes& types, UpdateControl& control,
                   int64_t elements) {
  return {.hyper = MakeAdamwHyper(1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 42, 10),
          .segments = {{.begin = 0, .count = elements, .decay = true}},
          .master = arrays.View(3, types.master),
          .m = arrays.View(1, types.m),
          .v = arrays.View(2, types.v),
          .gradient = arrays.View(0, types.gradient),
          .control = TensorView(&control, DType::kI32, {2}),
          .weight = arrays.View(4, types.weight)};
}

std::string_view ShortName(DType dtype) { return dtype == DType::kF32 ? "fp32" : "bf16"; }

// Reads of gradient, m, v, master; writes of m, v, master, weight.
int64_t BytesPerElement(const StateTypes& types) {
  return SizeOf(types.gradient) + SizeOf(types.weight) +
         2 * (SizeOf(types.m) + SizeOf(types.v) + SizeOf(types.master));
}

}  // namespace

const HostAdamwBenchCase& HostAdamwBenchResult::Of(DType master) const {
  const auto found = std::find_if(
      cases.begin(), cases.end(),
      [master](const HostAdamwBenchCase& c) { return c.m == DType::kBF16 && c.master == master; });
  CHECK(found != cases.end(), "no case with master weights of {}", Name(master));
  return *found;
}

HostAdamwBenchResult BenchHostAdamw(Device& device, const HostAdamwBenchOptions& options) {
  CHECK(options.elements > 0 && options.repetitions > 0, "a bench of {} elements, {} repetitions",
        options.elements, options.repetitions);
  HostAdamw optimizer(options.threads);
  WorkerPool pool(options.threads);
  const Arrays arrays(device, pool, options.elements);
  UpdateControl control;
  HostAdamwBenchResult result{.threads = options.threads,
                              .elements = options.elements,
                              .repetitions = options.repetitions,
                              .simd_target = HostAdamw::simd_target(),
                              .triad_gb_per_s = 0,
                              .in_place_gb_per_s = 0,
                              .cases = {}};
  std::vector<double> triad;
  std::vector<double> in_place;
  const auto run_triad = [&] {
    return MillisecondsOf([&] { Triad(pool, arrays, options.elements); });
  };
  const auto run_in_place = [&] {
    return MillisecondsOf([&] { AddInPlace(pool, arrays, options.elements); });
  };
  run_triad();
  std::vector<std::vector<double>> updates(std::size(kCases));
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const AdamwArgs args = MakeArgs(arrays, kCases[i], control, options.elements);
    Fill(pool, arrays, kCases[i]);
    optimizer.Update(args);
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
      triad.push_back(run_triad());
      in_place.push_back(run_in_place());
      updates[i].push_back(MillisecondsOf([&] { optimizer.Update(args); }));
    }
  }
  const auto elements = static_cast<double>(options.elements);
  result.triad_gb_per_s = 12 * elements / UpperMedian(triad) / 1e6;
  result.in_place_gb_per_s = 12 * elements / UpperMedian(in_place) / 1e6;
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const StateTypes& types = kCases[i];
    const double milliseconds = UpperMedian(updates[i]);
    const int64_t bytes = BytesPerElement(types);
    const double gb_per_s = static_cast<double>(bytes) * elements / milliseconds / 1e6;
    result.cases.push_back({.state = fmt::format("m {}, v {}, master {}", ShortName(types.m),
                                                 ShortName(types.v), ShortName(types.master)),
                            .m = types.m,
                            .master = types.master,
                            .bytes_per_element = bytes,
                            .milliseconds = milliseconds,
                            .gb_per_s = gb_per_s,
                            .fraction_of_triad = gb_per_s / result.triad_gb_per_s});
  }
  return result;
}

}  // namespace hearth
