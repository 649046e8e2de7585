// FP8 quantisation with one scale per tensor.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// The scale of one quantised tensor is a device record of four floats, 16-byte aligned (cuBLASLt
// reads `inverse` in place): value = quantised * inverse, quantised = Round(value * scale).
struct ScaleRecord {
  float inverse = 1.0f;
  float scale = 1.0f;
  float amax = 0.0f;
  float reserved = 0.0f;
};

// scale = largest / amax by IEEE division, at most 2^126; 1 for an all-zero tensor. `largest` is
// 448 for E4M3 and 57344 for E5M2. A NaN amax gives NaN scales, so that the loss shows it.
ScaleRecord MakeScale(float amax, DType format);

enum class ScaleMode : uint8_t {
  kCurrent,  // from the amax of this very tensor: the op writes the whole record
  kGiven,    // read from the record; the op changes nothing in it
};

// Where a producer puts its FP8 result. What is quantised is the result rounded to the storage type
// of the op's activations (bf16, or f32 under fp32 activations).
struct QuantizedOutput {
  TensorView values;      // [rows, columns] f8, optional
  TensorView transposed;  // [columns, rows] f8, optional
  TensorView scale;       // [4] f32, a ScaleRecord
  ScaleMode mode = ScaleMode::kCurrent;

  explicit operator bool() const { return static_cast<bool>(scale); }
};

struct QuantizeArgs {
  TensorView input;  // [rows, columns] bf16 | f32
  QuantizedOutput output;
};

// [rows, columns] f8 -> [columns, rows], byte for byte.
struct TransposeArgs {
  TensorView input;
  TensorView output;
};

// amax = max(amax, max |input|) when accumulate, else max |input|. NaN wins over everything.
struct AmaxArgs {
  TensorView input;  // any shape, bf16 | f32
  TensorView amax;   // [1] f32
  bool accumulate = false;
};

// One record per amax word.
struct ScaleFromAmaxArgs {
  TensorView amax;    // [n] f32
  TensorView scales;  // [n, 4] f32, ScaleRecords
  DType format = DType::kF8E4M3;
};

void Validate(const QuantizedOutput& output, Shape shape);
void Validate(const QuantizeArgs& args);
void Validate(const TransposeArgs& args);
void Validate(const AmaxArgs& args);
void Validate(const ScaleFromAmaxArgs& args);

}  // namespace hearth
