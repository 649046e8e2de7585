// The extent of a dense row-major tensor of at most four dimensions.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "kernels/core/check.h"

namespace hearth {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) {
    CHECK(extents.size() <= kMaxRank, "a shape has at most {} dimensions, not {}", kMaxRank,
          extents.size());
    for (int64_t extent : extents) {
      CHECK(extent >= 0, "negative extent {}", extent);
      extents_[rank_++] = extent;
    }
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const {
    CHECK(axis >= 0 && axis < rank_, "axis {} of a shape of rank {}", axis, rank_);
    return extents_[axis];
  }
  // Number of elements; 1 for a scalar (rank 0).
  int64_t elements() const {
    int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= extents_[axis];
    return product;
  }
  bool operator==(const Shape& other) const = default;

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int axis = 0; axis < shape.rank(); ++axis) out << (axis ? ", " : "") << shape[axis];
  return out << ']';
}

}  // namespace hearth
