// The scratch memory of each op as a pure function of its shape, the same for every backend, so
// that a plan is exact without a GPU. A library algorithm that wants more is not chosen.
#pragma once

#include <cstdint>

#include "kernels/api/attention.h"

namespace hearth {

int64_t GemmWorkspaceBytes();
int64_t AttentionBackwardWorkspaceBytes(const AttentionShape& shape, int64_t tokens);
int64_t RmsNormBackwardWorkspaceBytes(int64_t tokens, int64_t columns);
int64_t RopeBackwardWorkspaceBytes(int64_t tokens, int64_t heads, int64_t kv_heads,
                                   int64_t head_dim);
int64_t EmbeddingBackwardWorkspaceBytes(int64_t tokens);
int64_t ColumnSumWorkspaceBytes(int64_t rows, int64_t columns);

}  // namespace hearth
