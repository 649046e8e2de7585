// Every operand becomes fp32 (exactly: bf16 and f8 are subsets of it), the library multiplies
// tiles, and what the library does not do is applied to the tile while it is in the cache. How a
// product is cut depends on its shape alone.
#include "kernels/api/gemm.h"

#include <algorithm>

#include "kernels/api/quantize.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/float8_decode.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/cpu/thread_scratch.h"

namespace hearth {

namespace {

// Floats of b that are converted ahead of the tiles that read them: 16 MiB.
constexpr int64_t kPanelFloats = int64_t{4} << 20;
// Tiles narrower or smaller than this lose time in the library.
constexpr int64_t kSmallestColumns = 128;
constexpr int64_t kSmallestTileFlops = 8'000'000;
// A converted tile's result stays in the second-level cache until it is stored.
constexpr int64_t kLargestConvertedColumns = 512;
constexpr int64_t kWantedTiles = 8;

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// Range number `index` of [0, count) cut into pieces of `size`.
Range Piece(int64_t index, int64_t size, int64_t count) {
  return {index * size, std::min(count, (index + 1) * size)};
}

struct Tiling {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t panel_columns = 0;  // columns of b that are converted at a time
};

Tiling MakeTiling(const GemmShape& shape, bool converted) {
  Tiling tiling;
  tiling.rows = shape.m >= 1024 ? 256 : (shape.m >= 256 ? 128 : 64);
  tiling.panel_columns = shape.n;
  if (converted) {
    tiling.panel_columns = std::clamp(kPanelFloats / shape.k / kSmallestColumns * kSmallestColumns,
                                      kSmallestColumns, RoundUp(shape.n, kSmallestColumns));
  }
  // Few rows: cut the columns too, as long as a tile stays worth a task.
  const int64_t row_tiles = DivUp(shape.m, tiling.rows);
  const int64_t rows = std::clamp<int64_t>(shape.m, 1, tiling.rows);
  int64_t columns = DivUp(shape.n * row_tiles, kWantedTiles);
  columns = std::max(columns, DivUp(kSmallestTileFlops, 2 * rows * shape.k));
  if (converted) columns = std::min(columns, kLargestConvertedColumns);
  tiling.columns = std::max(RoundUp(columns, 64), kSmallestColumns);
  return tiling;
}

template <typename Function>
void WithOperandType(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::kBF16:
      return function(BFloat16{});
    case DType::kF8E4M3:
      return function(Float8E4M3{});
    default:
      CHECK(dtype == DType::kF8E5M2, "a gemm operand of type {}", Name(dtype));
      return function(Float8E5M2{});
  }
}

// Rows and columns, as they lie in memory, of a bf16 or f8 matrix as dense fp32.
void Convert(const TensorView& matrix, Range rows, Range columns, float* to) {
  const int64_t leading = matrix.shape()[1];
  WithOperandType(matrix.dtype(), [&](auto type) {
    const auto* data = matrix.as<decltype(type)>();
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      LoadRow(data + row * leading + columns.begin, columns.size(),
              to + (row - rows.begin) * columns.size());
    }
  });
}

void AddRow(const TensorView& tensor, int64_t first, int64_t count, float* values) {
  WithStorage(tensor.dtype(), [&](auto type) {
    const auto* row = tensor.as<decltype(type)>() + first;
    for (int64_t i = 0; i < count; ++i) values[i] += ToFloat(row[i]);
  });
}

class GemmRun {
 public:
  GemmRun(ThreadPool& pool, const GemmArgs& args)
      : pool_(pool),
        args_(args),
        shape_(ShapeOf(args)),
        converted_(args.a.dtype() != DType::kF32),
        tiling_(MakeTiling(shape_, converted_)) {
    // The tile goes straight to its place when nothing but a bias is to be added.
    direct_ = args.out.dtype() == DType::kF32 && !args.addend && !args.a_scale;
    if (args.a_scale) {
      scale_ = args.a_scale.as<float>()[0] * args.b_scale.as<float>()[0];
    }
  }

  void Run() {
    if (shape_.m == 0) return;
    for (int64_t begin = 0; begin < shape_.n; begin += tiling_.panel_columns) {
      RunPanel({begin, std::min(shape_.n, begin + tiling_.panel_columns)});
    }
  }

 private:
  void RunPanel(Range panel);
  Fp32Matrix PreparePanel(Range panel);
  void RunTile(Range rows, Range columns, Fp32Matrix b);
  void Finish(Range rows, Range columns, float* tile, int64_t leading);

  ThreadPool& pool_;
  const GemmArgs& args_;
  const GemmShape shape_;
  const bool converted_;
  const Tiling tiling_;
  bool direct_ = false;
  float scale_ = 1.0f;
};

// Columns `panel` of the product's right operand, [k, n] or its transpose.
Fp32Matrix GemmRun::PreparePanel(Range panel) {
  // As a matrix [k, n], b lies transposed unless it is stored [k, n].
  const bool transposed = !args_.b_transposed;
  if (!converted_) {
    const float* data = args_.b.as<float>() + (transposed ? panel.begin * shape_.k : panel.begin);
    return {data, args_.b.shape()[1], transposed};
  }
  float* data = ThreadScratch(ScratchUse::kOp, panel.size() * shape_.k);
  const Range rows = transposed ? panel : Range{0, shape_.k};
  const Range columns = transposed ? Range{0, shape_.k} : panel;
  const int64_t piece = PieceOfRows(columns.size());
  pool_.ForEach(DivUp(rows.size(), piece), [&](int64_t index) {
    const Range some = Piece(index, piece, rows.size());
    Convert(args_.b, {rows.begin + some.begin, rows.begin + some.end}, columns,
            data + some.begin * columns.size());
  });
  return {data, columns.size(), transposed};
}

void GemmRun::RunPanel(Range panel) {
  const Fp32Matrix b = PreparePanel(panel);
  const int64_t row_tiles = DivUp(shape_.m, tiling_.rows);
  const int64_t column_tiles = DivUp(panel.size(), tiling_.columns);
  pool_.ForEach(row_tiles * column_tiles, [&](int64_t index) {
    const Range rows = Piece(index % row_tiles, tiling_.rows, shape_.m);
    const Range inside = Piece(index / row_tiles, tiling_.columns, panel.size());
    Fp32Matrix tile_b = b;
    tile_b.data += b.transposed ? inside.begin * b.leading : inside.begin;
    RunTile(rows, {panel.begin + inside.begin, panel.begin + inside.end}, tile_b);
  });
}

void GemmRun::RunTile(Range rows, Range columns, Fp32Matrix b) {
  const int64_t a_floats = converted_ ? rows.size() * shape_.k : 0;
  const int64_t tile_floats = direct_ ? 0 : rows.size() * columns.size();
  float* scratch = ThreadScratch(ScratchUse::kTask, a_floats + tile_floats);
  Fp32Matrix a{.leading = args_.a.shape()[1], .transposed = args_.a_transposed};
  if (converted_) {
    const Range all{0, shape_.k};
    Convert(args_.a, a.transposed ? all : rows, a.transposed ? rows : all, scratch);
    a.data = scratch;
    a.leading = a.transposed ? rows.size() : shape_.k;
  } else {
    a.data = args_.a.as<float>() + (a.transposed ? rows.begin : rows.begin * a.leading);
  }
  const int64_t leading = direct_ ? shape_.n : columns.size();
  float* tile =
      direct_ ? args_.out.as<float>() + rows.begin * shape_.n + columns.begin : scratch + a_floats;
  Sgemm({.m = rows.size(),
         .n = columns.size(),
         .k = shape_.k,
         .a = a,
         .b = b,
         .c = tile,
         .c_leading = leading});
  if (!direct_ || args_.bias) Finish(rows, columns, tile, leading);
}

// out = round(tile * scale + bias + addend). The bias comes after the scale: it is in real units.
void GemmRun::Finish(Range rows, Range columns, float* tile, int64_t leading) {
  const int64_t count = columns.size();
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* values = tile + (row - rows.begin) * leading;
    const int64_t first = row * shape_.n + columns.begin;
    if (scale_ != 1.0f) {
      for (int64_t i = 0; i < count; ++i) values[i] *= scale_;
    }
    if (args_.bias) AddRow(args_.bias, columns.begin, count, values);
    if (args_.addend) AddRow(args_.addend, first, count, values);
    if (direct_) continue;
    WithStorage(args_.out.dtype(), [&](auto type) {
      StoreRow(values, count, args_.out.as<decltype(type)>() + first);
    });
  }
}

}  // namespace

void CpuBackend::DoGemm(Stream& stream, const GemmArgs& args) {
  Enqueue(stream, [this, args] { GemmRun(device_.pool(), args).Run(); });
}

}  // namespace hearth
