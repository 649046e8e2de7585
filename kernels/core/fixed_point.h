// The form of sums whose result may not depend on their order.
#pragma once

#include <array>
#include <cstdint>

namespace hearth {

// An exact sum: a 128-bit two's complement fixed-point number with 64 fractional bits in four
// 32-bit limbs (least significant first), each carried in an int64 so that records of up to 2^31
// partial sums add word by word (an all-reduce over int64), and a count of the terms it cannot
// hold: not finite, or 2^62 and beyond. The result does not depend on order, partition or number of
// ranks.
struct FixedPointSum {
  std::array<int64_t, 4> limbs{};
  int64_t not_representable = 0;
};
constexpr int64_t kFixedPointWords = 5;

}  // namespace hearth
