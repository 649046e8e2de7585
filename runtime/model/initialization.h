// The value every parameter starts from: a pure function of (seed, tensor, element), the same for
// every rank, world size, shard layout and machine.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/model/model_spec.h"

namespace hearth {

// Elements [begin, begin + out.size()) of the parameter's stored tensor, row-major; padding rows
// are zero. Normal values come from Philox draws (use kInitialization, step 0) by the Box-Muller
// transform in double, rounded once. Thread-safe.
void InitialValues(const ParameterSpec& parameter, uint64_t seed, int64_t begin,
                   std::span<float> out);

namespace internal {

// ln(value) for 0 < value <= 1, and sine and cosine of turns * 2^-32 full turns. Made of
// IEEE additions, products and quotients in a fixed order only, so that no C library and no
// processor changes a bit of a model. Errors below 4e-16 (absolute for the sine and cosine).
double PortableLog(double value);
struct SineCosine {
  double sine;
  double cosine;
};
SineCosine PortableSineCosine(uint32_t turns);

}  // namespace internal
}  // namespace hearth
