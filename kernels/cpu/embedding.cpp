#include "kernels/api/embedding.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// The position of a real token as one sortable number: token above position.
uint64_t SortKey(int32_t token, int64_t position) {
  return (static_cast<uint64_t>(token) << 32) | static_cast<uint64_t>(position);
}
int64_t TokenOf(uint64_t key) { return static_cast<int64_t>(key >> 32); }
int64_t PositionOf(uint64_t key) { return static_cast<int64_t>(key & 0xffffffffu); }

// d_table[token] += the rows of d_out at positions keys[begin], keys[begin + 1], ... of that token.
// Returns the end of the run.
template <typename T>
int64_t AddRun(const EmbeddingBackwardArgs& args, const uint64_t* keys, int64_t begin,
               int64_t count, float* sum) {
  const int64_t columns = args.d_table.shape()[1];
  const int64_t token = TokenOf(keys[begin]);
  std::fill(sum, sum + columns, 0.0f);
  int64_t i = begin;
  for (; i < count && TokenOf(keys[i]) == token; ++i) {
    const T* row = args.d_out.as<T>() + PositionOf(keys[i]) * columns;
    for (int64_t column = 0; column < columns; ++column) sum[column] += ToFloat(row[column]);
  }
  AddToAccumulator(sum, columns, args.d_table.Rows(token, 1));
  return i;
}

}  // namespace

void CpuBackend::DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t vocab = args.table.shape()[0];
    const int64_t columns = args.table.shape()[1];
    const int64_t row_bytes = columns * SizeOf(args.table.dtype());
    const int32_t* tokens = args.tokens.as<int32_t>();
    const auto* table = static_cast<const std::byte*>(args.table.data());
    auto* out = static_cast<std::byte*>(args.out.data());
    ForEachPiece(device_.pool(), args.tokens.elements(), PieceOfRows(columns),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     CHECK(tokens[i] < vocab, "token {} at {}, the table has {} rows", tokens[i], i,
                           vocab);
                     if (tokens[i] < 0) {
                       std::memset(out + i * row_bytes, 0, static_cast<size_t>(row_bytes));
                     } else {
                       std::memcpy(out + i * row_bytes, table + tokens[i] * row_bytes,
                                   static_cast<size_t>(row_bytes));
                     }
                   }
                 });
  });
}

void CpuBackend::DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t vocab = args.d_table.shape()[0];
    const int64_t columns = args.d_table.shape()[1];
    const int32_t* tokens = args.tokens.as<int32_t>();
    auto* keys = static_cast<uint64_t*>(args.workspace.data());
    int64_t count = 0;
    for (int64_t i = 0; i < args.tokens.elements(); ++i) {
      CHECK(tokens[i] < vocab, "token {} at {}, the table has {} rows", tokens[i], i, vocab);
      if (tokens[i] >= 0) keys[count++] = SortKey(tokens[i], i);
    }
    std::sort(keys, keys + count);
    // A piece adds the runs that start in it.
    ForEachPiece(device_.pool(), count, PieceOfRows(columns), [&](int64_t begin, int64_t end) {
      std::vector<float> sum(static_cast<size_t>(columns));
      int64_t i = begin;
      while (i < end && i > 0 && TokenOf(keys[i]) == TokenOf(keys[i - 1])) ++i;
      WithStorage(args.d_out.dtype(), [&](auto storage) {
        while (i < end) i = AddRun<decltype(storage)>(args, keys, i, count, sum.data());
      });
    });
  });
}

}  // namespace hearth
