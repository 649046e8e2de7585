#include "kernels/api/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/api/adamw.h"
#include "kernels/api/workspace.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// Elements summed together: small enough for the first-level cache.
constexpr int64_t kSumElements = 2048;
// Elements of a piece of an exact sum, a multiple of kSquareBlock.
constexpr int64_t kFixedPointElements = 16 * kSquareBlock;

// sum[i] += scale * input[begin + i].
void AddScaled(const TensorView& input, int64_t begin, int64_t count, float scale, float* sum) {
  WithStorage(input.dtype(), [&](auto storage) {
    const auto* values = input.as<decltype(storage)>() + begin;
    for (int64_t i = 0; i < count; ++i) sum[i] += scale * ToFloat(values[i]);
  });
}

void SumElements(const OrderedSumArgs& args, int64_t begin, int64_t end) {
  const int64_t count = end - begin;
  // Minus zero is the neutral element of addition; plus zero would turn a sum of -0 into +0.
  float sum[kSumElements];
  std::fill(sum, sum + count, -0.0f);
  if (args.accumulate) {
    AddScaled(args.out, begin, count, 1.0f, sum);
    for (const TensorView& input : args.inputs) AddScaled(input, begin, count, args.scale, sum);
  } else {
    for (const TensorView& input : args.inputs) AddScaled(input, begin, count, 1.0f, sum);
    for (int64_t i = 0; i < count; ++i) sum[i] *= args.scale;
  }
  WithStorage(args.out.dtype(), [&](auto storage) {
    StoreRow(sum, count, args.out.as<decltype(storage)>() + begin);
  });
}

template <typename T>
void AddTerms(const T* values, int64_t count, SumTerms terms, FixedPointSum& sum) {
  if (terms == SumTerms::kElements) {
    for (int64_t i = 0; i < count; ++i) AddTerm(sum, ToFloat(values[i]));
    return;
  }
  for (int64_t begin = 0; begin < count; begin += kSquareBlock) {
    const int64_t end = std::min(count, begin + kSquareBlock);
    float squares = 0.0f;
    for (int64_t i = begin; i < end; ++i) {
      const float value = ToFloat(values[i]);
      squares = std::fma(value, value, squares);
    }
    AddTerm(sum, squares);
  }
}

}  // namespace

void CpuBackend::DoOrderedSum(Stream& stream, const OrderedSumArgs& args) {
  Enqueue(stream, [this, args] {
    ForEachPiece(device_.pool(), args.out.elements(), 8 * kSumElements,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; i += kSumElements) {
                     SumElements(args, i, std::min(end, i + kSumElements));
                   }
                 });
  });
}

void CpuBackend::DoColumnSum(Stream& stream, const ColumnSumArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t rows = args.input.shape()[0];
    const int64_t columns = args.input.shape()[1];
    const int64_t sum_rows = RowsPerPartialSum(rows);
    auto* partials = static_cast<float*>(args.workspace.data());
    ForEachPiece(device_.pool(), rows, sum_rows, [&](int64_t begin, int64_t end) {
      float* sum = partials + begin / sum_rows * columns;
      std::fill(sum, sum + columns, 0.0f);
      for (int64_t row = begin; row < end; ++row) {
        AddScaled(args.input, row * columns, columns, 1.0f, sum);
      }
    });
    AddPartialSums(device_.pool(), partials, PartialSumCount(rows), columns, args.out);
  });
}

void CpuBackend::DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t count = args.input.elements();
    std::vector<FixedPointSum> partials(static_cast<size_t>(DivUp(count, kFixedPointElements)));
    ForEachPiece(device_.pool(), count, kFixedPointElements, [&](int64_t begin, int64_t end) {
      WithStorage(args.input.dtype(), [&](auto storage) {
        AddTerms(args.input.as<decltype(storage)>() + begin, end - begin, args.terms,
                 partials[static_cast<size_t>(begin / kFixedPointElements)]);
      });
    });
    auto* sum = static_cast<FixedPointSum*>(args.sum.data());
    for (const FixedPointSum& partial : partials) AddSum(*sum, partial);
  });
}

void CpuBackend::DoClip(Stream& stream, const ClipArgs& args) {
  Enqueue(stream, [args] {
    const double norm = std::sqrt(ToDouble(*static_cast<const FixedPointSum*>(args.sum.data())));
    UpdateControl control;
    const bool loss_is_finite =
        !args.losses ||
        static_cast<const FixedPointSum*>(args.losses.data())->not_representable == 0;
    if (!std::isfinite(norm) || !loss_is_finite) {
      control.skip = 1;
    } else if (args.max_norm > 0) {
      control.clip_factor =
          static_cast<float>(std::min(1.0, static_cast<double>(args.max_norm) / (norm + 1e-6)));
    }
    *args.norm.as<float>() = static_cast<float>(norm);
    std::memcpy(args.control.data(), &control, sizeof control);
  });
}

}  // namespace hearth
