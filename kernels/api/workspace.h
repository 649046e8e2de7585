// The scratch memory of each op as a pure function of its shape, the same for every backend, so
// that a plan is exact without a GPU. A library algorithm that wants more is not chosen.
#pragma once

#include <cstdint>

#include "kernels/api/attention.h"

namespace hearth {

// A gradient that is a sum over rows is formed as partial sums in fp32, each of so many consecutive
// rows, which are then added: for small micro-batches few rows, so that their sums fill a GPU.
// Part of the numerics, so a function of the number of rows alone. A multiple of 4, for any `rows`.
int64_t RowsPerPartialSum(int64_t rows);
// Those partial sums.
int64_t PartialSumCount(int64_t rows);

int64_t GemmWorkspaceBytes();
int64_t AttentionBackwardWorkspaceBytes(const AttentionShape& shape, int64_t tokens);
int64_t RmsNormBackwardWorkspaceBytes(int64_t tokens, int64_t columns);
int64_t RopeBackwardWorkspaceBytes(int64_t tokens, int64_t heads, int64_t kv_heads,
                                   int64_t head_dim);
int64_t EmbeddingBackwardWorkspaceBytes(int64_t tokens);
int64_t ColumnSumWorkspaceBytes(int64_t rows, int64_t columns);

}  // namespace hearth
