// The matrix product of portable builds, in place of the library's: that one alone would take most
// of the size such a build may have. Registers hold 4 x 64 results; b is packed 256 rows at a time.
#include <algorithm>
#include <array>

#include "kernels/cpu/sgemm.h"

namespace hearth {

namespace {

constexpr int64_t kRows = 4;
constexpr int64_t kColumns = 64;
constexpr int64_t kDepth = 256;

using Panel = std::array<float, kDepth * kColumns>;
using Tile = std::array<std::array<float, kColumns>, kRows>;

float Element(const Fp32Matrix& matrix, int64_t row, int64_t column) {
  return matrix.transposed ? matrix.data[column * matrix.leading + row]
                           : matrix.data[row * matrix.leading + column];
}

// b[first_k .. +depth, first_n .. +columns], filled up with zero columns.
void PackPanel(const Fp32Matrix& b, int64_t first_k, int64_t depth, int64_t first_n,
               int64_t columns, Panel& panel) {
  for (int64_t k = 0; k < depth; ++k) {
    float* row = panel.data() + k * kColumns;
    for (int64_t n = 0; n < columns; ++n) row[n] = Element(b, first_k + k, first_n + n);
    std::fill(row + columns, row + kColumns, 0.0f);
  }
}

// The sums over one panel, of kRows rows of a packed as [depth][kRows].
__attribute__((target_clones("avx512f", "avx2", "default"))) void MultiplyPanel(const float* a,
                                                                                int64_t depth,
                                                                                const float* panel,
                                                                                float* tile) {
  std::fill(tile, tile + kRows * kColumns, 0.0f);
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t row = 0; row < kRows; ++row) {
      const float factor = a[k * kRows + row];
      for (int64_t n = 0; n < kColumns; ++n) {
        tile[row * kColumns + n] += factor * panel[k * kColumns + n];
      }
    }
  }
}

void AddTile(const SgemmArgs& args, int64_t first_m, int64_t first_n, bool add, const Tile& tile) {
  const int64_t rows = std::min(kRows, args.m - first_m);
  const int64_t columns = std::min(kColumns, args.n - first_n);
  for (int64_t m = 0; m < rows; ++m) {
    float* c = args.c + (first_m + m) * args.c_leading + first_n;
    for (int64_t n = 0; n < columns; ++n) {
      const float value = args.alpha * tile[static_cast<size_t>(m)][static_cast<size_t>(n)];
      c[n] = add ? c[n] + value : value;
    }
  }
}

}  // namespace

void Sgemm(const SgemmArgs& args) {
  Panel panel;
  std::array<float, kDepth * kRows> rows{};
  Tile tile;
  for (int64_t first_n = 0; first_n < args.n; first_n += kColumns) {
    for (int64_t first_k = 0; first_k == 0 || first_k < args.k; first_k += kDepth) {
      const int64_t depth = std::min(kDepth, args.k - first_k);
      PackPanel(args.b, first_k, depth, first_n, std::min(kColumns, args.n - first_n), panel);
      for (int64_t first_m = 0; first_m < args.m; first_m += kRows) {
        for (int64_t k = 0; k < depth; ++k) {
          for (int64_t m = 0; m < kRows; ++m) {
            rows[static_cast<size_t>(k * kRows + m)] =
                first_m + m < args.m ? Element(args.a, first_m + m, first_k + k) : 0.0f;
          }
        }
        MultiplyPanel(rows.data(), depth, panel.data(), tile[0].data());
        AddTile(args, first_m, first_n, args.accumulate || first_k > 0, tile);
      }
    }
  }
}

}  // namespace hearth
