// The arithmetic of small all-reduces in host memory.
#pragma once

#include <vector>

#include "comm/api/communicator.h"

namespace hearth {

// out = the terms combined element by element in the order given. All are byte views of `dtype`
// elements; out may be one of the terms. Integer sums wrap; NaN wins a maximum.
void ReduceInRankOrder(const std::vector<TensorView>& terms, const TensorView& out, DType dtype,
                       AllReduceOp op);

}  // namespace hearth
