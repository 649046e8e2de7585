// Sums whose order is part of the numerics.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/fixed_point.h"
#include "kernels/core/tensor_view.h"

namespace hearth {

// out = round(scale * (((in[0] + in[1]) + in[2]) + ...)) in fp32, in the order given, rounded once;
// with accumulate, the present content of out is the first term (and is not scaled).
struct OrderedSumArgs {
  std::vector<TensorView> inputs;  // equal shapes, f32 | bf16
  TensorView out;                  // f32 | bf16; may be one of the inputs
  float scale = 1.0f;
  bool accumulate = false;
};

// d_bias[n] += sum over rows of d_out, in fp32 over fixed blocks of rows, rounded once.
struct ColumnSumArgs {
  TensorView input;      // [rows, columns] f32 | bf16
  TensorView out;        // [columns] f32 | bf16, accumulated
  TensorView workspace;  // u8, ColumnSumWorkspaceBytes
};

// The value as a double; NaN when a term was not representable.
double ToDouble(const FixedPointSum& sum);
// Adds one term exactly (bits below 2^-64 are cut off towards minus infinity).
void AddTerm(FixedPointSum& sum, float term);
// Adds a sum of up to 2^31 records, carrying: the lower three limbs of the result are in [0, 2^32).
void AddSum(FixedPointSum& sum, const FixedPointSum& other);

// What each term of a fixed-point sum is.
enum class SumTerms : uint8_t {
  kElements,       // every element
  kSquaredBlocks,  // the fp32 sum of squares of each kSquareBlock consecutive elements, in rising
                   // order with fma; the last block may be short
};
constexpr int64_t kSquareBlock = 1024;

// sum += the terms of the input.
struct FixedPointSumArgs {
  TensorView input;  // [n] f32 | bf16
  SumTerms terms = SumTerms::kElements;
  TensorView sum;  // [kFixedPointWords] i64, accumulated
};

// From the sum of squares: the norm, and the clip factor min(1, max_norm / (norm + 1e-6)) (1 when
// max_norm is 0), with skip = 1 when the norm or the loss is not finite. Computed in double,
// rounded to fp32.
struct ClipArgs {
  TensorView sum;     // [kFixedPointWords] i64, of the squares
  TensorView losses;  // [kFixedPointWords] i64, optional
  float max_norm = 0;
  TensorView norm;     // [1] f32
  TensorView control;  // [2] 4-byte words (i32 view), an UpdateControl
};

void Validate(const OrderedSumArgs& args);
void Validate(const ColumnSumArgs& args);
void Validate(const FixedPointSumArgs& args);
void Validate(const ClipArgs& args);

}  // namespace hearth
