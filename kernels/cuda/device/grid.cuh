// Sizes of launches.
#pragma once

#include <cstdint>

#include "kernels/core/check.h"

namespace hearth::cuda {

// The first dimension of a grid of so many blocks, at least one: the only dimension that holds more
// than 65,535.
inline uint32_t GridSize(int64_t blocks) {
  CHECK(blocks > 0 && blocks < int64_t{1} << 31, "a grid of {} blocks", blocks);
  return static_cast<uint32_t>(blocks);
}

}  // namespace hearth::cuda
