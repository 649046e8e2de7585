// FP8 quantisation with one scale per tensor.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/core/float8.h"
#include "kernels/core/host_device.h"
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
  // One pass with a scale that is likely to fit. On entry the record holds a power of two, its
  // inverse, and two zeros; the op adds the tensor's amax. Where ScaleHolds says no, the tensor is
  // quantised again, from its storage form if the op keeps that, with the record that
  // MakePowerScale gives, `reserved` being 1. So bytes and record depend on nothing but the tensor
  // and the record on entry.
  kVerified,
};

// 2^floor(log2(largest / (2 * amax))): an octave or more of headroom. At most 2^126; 1 for an
// all-zero tensor; NaN where amax is not finite.
HEARTH_HOST_DEVICE inline float PowerScale(float amax, bool e5m2) {
  const uint32_t bits = std::bit_cast<uint32_t>(amax);
  constexpr uint32_t kInfinity = 0x7f800000u;
  if (bits >= kInfinity) return std::bit_cast<float>(0x7fc00000u);
  if (bits == 0) return 1.0f;
  // Both largest numbers are 1.75 * 2^n: what is above 1.75 * 2^exponent takes a power less.
  constexpr uint32_t kQuarters = 0x600000u;
  const int exponent = static_cast<int>(bits >> 23) - 127 + ((bits & 0x7fffffu) > kQuarters);
  const int power = (e5m2 ? 14 : 7) - exponent;
  return std::bit_cast<float>(static_cast<uint32_t>((power < 126 ? power : 126) + 127) << 23);
}

// Whether a tensor of that amax may keep the scale: nothing of it is clipped, and its largest
// element uses all but the last four octaves below the format's largest number; or its own power of
// two is no other. False where amax is not finite.
HEARTH_HOST_DEVICE inline bool ScaleHolds(float amax, float scale, bool e5m2) {
  if (amax == 0.0f || PowerScale(amax, e5m2) == scale) return true;
  const float largest = e5m2 ? kE5M2Max : kE4M3Max;
  const float scaled = amax * scale;
  return scaled <= largest && scaled >= largest / 16.0f;
}

// The record of a tensor that is quantised with its own power of two. A NaN or infinite amax gives
// NaN scales, so that the loss shows it.
HEARTH_HOST_DEVICE inline ScaleRecord MakePowerScale(float amax, bool e5m2) {
  const float scale = PowerScale(amax, e5m2);
  if (scale != scale) return {scale, scale, amax == amax ? amax : scale, 0.0f};
  return {1.0f / scale, scale, amax, 0.0f};
}

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

// What one micro-batch's records say, for the scales of the next step:
// amax[i] = max(amax[i], records[i].amax) where the latter is finite; repairs += the number of
// records whose `reserved` is not 0.
struct CollectAmaxArgs {
  TensorView records;  // [n, 4] f32, ScaleRecords
  TensorView amax;     // [n] f32
  TensorView repairs;  // [1] i64
};

// The scales a step starts with, from the step before. Where control says skip, nothing changes.
struct UpdateScalesArgs {
  TensorView amax;             // [n] f32, finite
  TensorView control;          // [2] i32, an UpdateControl
  std::vector<DType> formats;  // row i has formats[i % size]; at most 32
  TensorView history;          // [n] f32: becomes amax
  TensorView scales;           // [n, 4] f32: powers of two, amax and reserved 0
};

void Validate(const QuantizedOutput& output, Shape shape);
void Validate(const QuantizeArgs& args);
void Validate(const TransposeArgs& args);
void Validate(const AmaxArgs& args);
void Validate(const ScaleFromAmaxArgs& args);
void Validate(const CollectAmaxArgs& args);
void Validate(const UpdateScalesArgs& args);

}  // namespace hearth
