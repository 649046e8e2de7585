#include "kernels/api/rms_norm.h"

#include <cmath>
#include <vector>

#include "kernels/api/workspace.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/quantize_rows.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

template <typename T>
void ForwardRows(const RmsNormForwardArgs& args, int64_t begin, int64_t end, T* block) {
  const int64_t columns = args.x.shape()[1];
  const T* weight = args.weight.as<T>();
  float* rstds = args.rstd.as<float>();
  std::vector<float> x(static_cast<size_t>(columns));
  for (int64_t row = begin; row < end; ++row) {
    LoadRow(args.x.as<T>() + row * columns, columns, x.data());
    const float mean = DotRow(x.data(), x.data(), columns) / static_cast<float>(columns);
    const float rstd = 1.0f / std::sqrt(mean + args.epsilon);
    rstds[row] = rstd;
    T* out = block + (row - begin) * columns;
    for (int64_t i = 0; i < columns; ++i) {
      out[i] = FromFloat<T>(Rounded<T>(x[static_cast<size_t>(i)] * rstd) * ToFloat(weight[i]));
    }
  }
}

// With n = x * rstd and g = d_out * weight: d_x = rstd * (g - n * mean(g * n)) + d_residual, and
// the weight's gradient is the sum of d_out * n over rows, n as forward multiplied it.
template <typename T>
void BackwardRows(const RmsNormBackwardArgs& args, int64_t begin, int64_t end, float* d_weight) {
  const int64_t columns = args.x.shape()[1];
  const T* weight = args.weight.as<T>();
  std::vector<float> scratch(static_cast<size_t>(2 * columns));
  float* normalized = scratch.data();
  float* g = normalized + columns;
  std::fill(d_weight, d_weight + columns, 0.0f);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.as<T>() + row * columns;
    const T* d_out = args.d_out.as<T>() + row * columns;
    const T* d_residual = args.d_residual ? args.d_residual.as<T>() + row * columns : nullptr;
    T* d_x = args.d_x.as<T>() + row * columns;
    const float rstd = args.rstd.as<float>()[row];
    for (int64_t i = 0; i < columns; ++i) {
      normalized[i] = ToFloat(x[i]) * rstd;
      g[i] = ToFloat(d_out[i]) * ToFloat(weight[i]);
      d_weight[i] += ToFloat(d_out[i]) * Rounded<T>(normalized[i]);
    }
    const float mean = DotRow(g, normalized, columns) / static_cast<float>(columns);
    if (d_residual == nullptr) {
      for (int64_t i = 0; i < columns; ++i) {
        d_x[i] = FromFloat<T>(rstd * (g[i] - normalized[i] * mean));
      }
    } else {
      for (int64_t i = 0; i < columns; ++i) {
        d_x[i] = FromFloat<T>(rstd * (g[i] - normalized[i] * mean) + ToFloat(d_residual[i]));
      }
    }
  }
}

}  // namespace

void CpuBackend::DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  Enqueue(stream, [this, args] {
    const ProducedRows rows{.rows = args.x.shape()[0],
                            .columns = args.x.shape()[1],
                            .storage = args.x.dtype(),
                            .out = args.out,
                            .quantized = args.quantized};
    ProduceRows(device_.pool(), rows, [&](int64_t begin, int64_t end, void* block) {
      WithStorage(rows.storage, [&](auto storage) {
        using T = decltype(storage);
        ForwardRows<T>(args, begin, end, static_cast<T*>(block));
      });
    });
  });
}

void CpuBackend::DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t rows = args.x.shape()[0];
    const int64_t columns = args.x.shape()[1];
    const int64_t sum_rows = RowsPerPartialSum(rows);
    auto* partials = static_cast<float*>(args.workspace.data());
    ForEachPiece(device_.pool(), rows, sum_rows, [&](int64_t begin, int64_t end) {
      WithStorage(args.x.dtype(), [&](auto storage) {
        BackwardRows<decltype(storage)>(args, begin, end, partials + begin / sum_rows * columns);
      });
    });
    AddPartialSums(device_.pool(), partials, PartialSumCount(rows), columns, args.d_weight);
  });
}

}  // namespace hearth
