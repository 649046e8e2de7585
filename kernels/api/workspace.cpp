#include "kernels/api/workspace.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Two partial sums at work on each multiprocessor of a large GPU; the second half of a sum, over
// the partial sums, grows with them.
constexpr int64_t kFullPartialSums = 256;
// Fewer rows gain nothing: the threads of a block have as many rows in work at once.
constexpr int64_t kFewestRows = 4;
// So that the partial sums of many rows stay a small part of the memory traffic.
constexpr int64_t kMostRows = 64;
// Every piece of a workspace starts on its own cache line and DMA boundary.
constexpr int64_t kPieceAlignment = 256;

int64_t Floats(int64_t count) { return RoundUp(count * SizeOf(DType::kF32), kPieceAlignment); }

}  // namespace

int64_t RowsPerPartialSum(int64_t rows) {
  return std::clamp(RoundUp(DivUp(rows, kFullPartialSums), kFewestRows), kFewestRows, kMostRows);
}

int64_t PartialSumCount(int64_t rows) { return DivUp(rows, RowsPerPartialSum(rows)); }

// What cuBLASLt's split-K algorithms ask for at most on Hopper; smaller devices need less.
int64_t GemmWorkspaceBytes() { return int64_t{32} << 20; }

// dot(out, d_out) of each row and head.
int64_t AttentionBackwardWorkspaceBytes(const AttentionShape& shape, int64_t tokens) {
  return Floats(shape.heads * tokens);
}

int64_t RmsNormBackwardWorkspaceBytes(int64_t tokens, int64_t columns) {
  return Floats(PartialSumCount(tokens) * columns);
}

// One partial sum for the query norm and one for the key norm.
int64_t RopeBackwardWorkspaceBytes(int64_t tokens, int64_t heads, int64_t kv_heads,
                                   int64_t head_dim) {
  // The heads of a token are summed before its row enters a partial sum, whatever their number.
  CHECK(heads >= 0 && kv_heads >= 0, "{} heads, {} key/value heads", heads, kv_heads);
  return 2 * Floats(PartialSumCount(tokens) * head_dim);
}

// The tokens' rows in the order of their ids: per token an id and a position, twice (sorting is not
// in place on every backend), and the counts of a radix sort: 256 words of each 4,096 tokens, where
// the library's tiles are of 8,064 or more, and some per pass. The CUDA backend checks it.
int64_t EmbeddingBackwardWorkspaceBytes(int64_t tokens) {
  constexpr int64_t kSortCounts = int64_t{1} << 16;
  return 4 * Floats(tokens) + Floats(kSortCounts + tokens / 16);
}

int64_t ColumnSumWorkspaceBytes(int64_t rows, int64_t columns) {
  return Floats(PartialSumCount(rows) * columns);
}

}  // namespace hearth
