#include "kernels/api/quantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/api/adamw.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/quantize_rows.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

constexpr int64_t kAmaxPiece = 65536;
// A square of bytes that fits the first-level cache in both directions.
constexpr int64_t kTransposeTile = 64;

float AmaxOfTensor(ThreadPool& pool, const TensorView& input) {
  const int64_t count = input.elements();
  std::vector<float> pieces(static_cast<size_t>(DivUp(count, kAmaxPiece)));
  WithStorage(input.dtype(), [&](auto type) {
    const auto* values = input.as<decltype(type)>();
    ForEachPiece(pool, count, kAmaxPiece, [&](int64_t begin, int64_t end) {
      pieces[static_cast<size_t>(begin / kAmaxPiece)] = AmaxOf(values + begin, end - begin);
    });
  });
  float largest = 0;
  for (const float piece : pieces) largest = MaxAmax(largest, piece);
  return largest;
}

// Rows [begin, end) of the input, tile by tile.
void TransposeRows(const TransposeArgs& args, int64_t begin, int64_t end) {
  const int64_t rows = args.input.shape()[0];
  const int64_t columns = args.input.shape()[1];
  const auto* from = static_cast<const uint8_t*>(args.input.data());
  auto* to = static_cast<uint8_t*>(args.output.data());
  for (int64_t first = 0; first < columns; first += kTransposeTile) {
    const int64_t last = std::min(columns, first + kTransposeTile);
    for (int64_t column = first; column < last; ++column) {
      for (int64_t row = begin; row < end; ++row) {
        to[column * rows + row] = from[row * columns + column];
      }
    }
  }
}

}  // namespace

void CpuBackend::DoQuantize(Stream& stream, const QuantizeArgs& args) {
  Enqueue(stream, [this, args] {
    const ProducedRows rows{.rows = args.input.shape()[0],
                            .columns = args.input.shape()[1],
                            .storage = args.input.dtype(),
                            .out = args.input,
                            .quantized = args.output};
    // The result to quantise is there already.
    ProduceRows(device_.pool(), rows, nullptr);
  });
}

void CpuBackend::DoTranspose(Stream& stream, const TransposeArgs& args) {
  Enqueue(stream, [this, args] {
    ForEachPiece(device_.pool(), args.input.shape()[0], kTransposeTile,
                 [&](int64_t begin, int64_t end) { TransposeRows(args, begin, end); });
  });
}

void CpuBackend::DoAmax(Stream& stream, const AmaxArgs& args) {
  Enqueue(stream, [this, args] {
    const float amax = AmaxOfTensor(device_.pool(), args.input);
    float* result = args.amax.as<float>();
    *result = args.accumulate ? MaxAmax(*result, amax) : amax;
  });
}

void CpuBackend::DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) {
  Enqueue(stream, [args] {
    const float* amax = args.amax.as<float>();
    auto* records = static_cast<ScaleRecord*>(args.scales.data());
    for (int64_t i = 0; i < args.amax.elements(); ++i) {
      records[i] = MakeScale(amax[i], args.format);
    }
  });
}

void CpuBackend::DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) {
  Enqueue(stream, [args] {
    const auto* records = static_cast<const ScaleRecord*>(args.records.data());
    float* amax = args.amax.as<float>();
    for (int64_t i = 0; i < args.amax.elements(); ++i) {
      if (std::isfinite(records[i].amax)) amax[i] = std::max(amax[i], records[i].amax);
      if (records[i].reserved != 0.0f) ++*args.repairs.as<int64_t>();
    }
  });
}

void CpuBackend::DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) {
  Enqueue(stream, [args] {
    if (static_cast<const UpdateControl*>(args.control.data())->skip != 0) return;
    const float* amax = args.amax.as<float>();
    auto* scales = static_cast<ScaleRecord*>(args.scales.data());
    for (int64_t i = 0; i < args.amax.elements(); ++i) {
      const DType format = args.formats[static_cast<size_t>(i) % args.formats.size()];
      args.history.as<float>()[i] = amax[i];
      scales[i] = MakePowerScale(amax[i], format == DType::kF8E5M2);
      scales[i].amax = 0.0f;
    }
  });
}

}  // namespace hearth
