// FP8 rows as floats, fast.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/core/float8.h"

namespace hearth {

using Float8Table = std::array<float, 256>;

template <typename Codec>
constexpr Float8Table MakeFloat8Table() {
  Float8Table table{};
  for (uint32_t bits = 0; bits < table.size(); ++bits) {
    table[bits] = Codec::Decode(static_cast<uint8_t>(bits));
  }
  return table;
}

inline constexpr Float8Table kE4M3Values = MakeFloat8Table<E4M3Codec>();
inline constexpr Float8Table kE5M2Values = MakeFloat8Table<E5M2Codec>();

inline void LoadRow(const Float8E4M3* row, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = kE4M3Values[row[i].bits];
}
inline void LoadRow(const Float8E5M2* row, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = kE5M2Values[row[i].bits];
}

}  // namespace hearth
