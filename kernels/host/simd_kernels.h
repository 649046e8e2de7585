// The loops of the host optimizer over contiguous elements, compiled for several instruction sets;
// the best one the machine has is chosen at the first call.
#pragma once

#include <cstdint>

#include "kernels/api/adamw.h"

namespace hearth {

// Memory of f32 or bf16 elements; null: absent.
struct StoredFloats {
  void* data = nullptr;
  bool is_bf16 = false;
};

// Consecutive elements of one parameter. The arrays do not overlap.
struct UpdateRange {
  StoredFloats gradient;
  StoredFloats m;
  StoredFloats v;
  StoredFloats master;
  StoredFloats weight;  // optional
  int64_t count = 0;
  uint64_t first_element = 0;  // index in the parameter
  uint32_t tensor_id = 0;
  float clip_factor = 1.0f;
  float decay = 0.0f;
  const AdamwHyper* hyper = nullptr;
};

// Updates the range and returns the bits of max |weight| as it was written (0 without weight): as
// integers such bits order like the numbers, with NaN above all.
uint32_t UpdateElements(const UpdateRange& range);

// The last part of that alone: writes the weights from the master values, with the same result.
uint32_t RoundElements(const StoredFloats& master, const StoredFloats& weight, int64_t count);

// quantized[i] = values[i] * scale rounded to nearest, saturating. format: f8_e4m3 | f8_e5m2.
void QuantizeElements(const StoredFloats& values, int64_t count, float scale, DType format,
                      uint8_t* quantized);

// The instruction set in use, such as "AVX3".
const char* SimdTargetName();

}  // namespace hearth
