// Moving, filling and converting memory.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// Equal types and sizes, any tier; the ranges do not overlap.
struct CopyArgs {
  TensorView source;
  TensorView destination;
};

// All bytes zero.
struct ZeroArgs {
  TensorView destination;
};

// f32 <-> bf16 (round to nearest even), equal sizes.
struct CastArgs {
  TensorView source;
  TensorView destination;
};

void Validate(const CopyArgs& args);
void Validate(const ZeroArgs& args);
void Validate(const CastArgs& args);

}  // namespace hearth
