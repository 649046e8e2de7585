// Reductions over arrays of fp32 in a fixed order that compilers turn into vector code.
#pragma once

#include <cstdint>

namespace hearth {

// The largest element; -infinity for none. NaN is passed over.
float MaxOf(const float* values, int64_t count);

// values[i] = e^(values[i] - shift), 0 where that is below e^-87; returns their sum. Blocks of 4096
// are summed in fp32, the blocks' sums in double, so that the error does not grow with the count.
// No value may exceed the shift by more than 88.
double ExpAndSum(float* values, int64_t count, float shift);

// The same without the sum.
void ExpShifted(float* values, int64_t count, float shift);

}  // namespace hearth
