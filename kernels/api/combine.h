// Combining what several ranks hold of the same small values.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/tensor_view.h"

namespace hearth {

enum class CombineOp : uint8_t { kSum, kMax };

// out = ((in[0] op in[1]) op in[2]) ..., element by element in the order given. Sums of f32 are
// made in fp32, those of i64 wrap; NaN wins a maximum.
struct CombineArgs {
  std::vector<TensorView> inputs;  // [n] each, f32 | i64, at least one
  TensorView out;                  // [n] of that type; may be one of the inputs
  CombineOp op = CombineOp::kSum;
};

}  // namespace hearth
