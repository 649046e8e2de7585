// Numbers of rows on both sides of each size where a sum over rows is cut differently
// (RowsPerPartialSum), for tests with few columns, and values whose sums are exact in any order.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/support/kernel_test.h"

namespace hearth::test {

inline std::vector<int64_t> RowsAroundPartialSums() {
  return {1, 3, 4, 5, 63, 64, 65, 1023, 1024, 1025, 4096, 8193, 16'385};
}

inline std::vector<double> SmallIntegers(Random& random, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<double>(random.Integer(-4, 4)));
  }
  return values;
}

}  // namespace hearth::test
