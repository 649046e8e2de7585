// AdamW (arXiv 1711.05101): decoupled decay, bias correction, epsilon outside the square root. The
// formula of one element is kernels/core/adamw_formula.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/philox.h"
#include "kernels/core/tensor_view.h"

namespace hearth {

// One step's constants. The bias corrections are computed once on the host in double.
struct AdamwHyper {
  float learning_rate = 0;
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  float weight_decay = 0;
  float inverse_bias1 = 1;       // 1 / (1 - beta1^step)
  float inverse_sqrt_bias2 = 1;  // 1 / sqrt(1 - beta2^step)
  uint64_t seed = 0;
  uint32_t step = 0;  // from 1; enters the random counters
};

AdamwHyper MakeAdamwHyper(float learning_rate, float beta1, float beta2, float epsilon,
                          float weight_decay, uint64_t seed, int64_t step);

// A piece of a parameter inside the range of one call.
struct AdamwSegment {
  int64_t begin = 0;  // first element, relative to the range
  int64_t count = 0;
  int64_t first_element = 0;  // index of that element in its parameter, for the random counters
  uint32_t tensor_id = 0;
  bool decay = false;
};

// Device words that the global norm produces and updates read.
struct UpdateControl {
  float clip_factor = 1.0f;
  uint32_t skip = 0;  // not 0: master, m and v stay as they are; weight is still written
};

// Updates one contiguous range of a unit; its arrays all cover the same elements.
struct AdamwArgs {
  AdamwHyper hyper;
  std::vector<AdamwSegment> segments;  // disjoint, rising; elements outside all of them are padding
  TensorView master;                   // [n] f32 | bf16 (stochastic rounding)
  TensorView m;                        // [n] f32 | bf16 (stochastic rounding)
  TensorView v;                        // [n] f32 | bf16 (stochastic rounding)
  TensorView gradient;                 // [n] f32 | bf16
  TensorView control;                  // [2] 4-byte words (i32 view), an UpdateControl
  TensorView weight;  // [n] f32 | bf16: the new master rounded to nearest; optional
};

void Validate(const AdamwArgs& args);
// What a write of `weight` from `master` alone needs: segments, master, weight.
void ValidateRoundMaster(const AdamwArgs& args);

}  // namespace hearth
