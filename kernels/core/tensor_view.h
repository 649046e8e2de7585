// A non-owning view of a dense row-major tensor.
#pragma once

#include <cstddef>

#include "kernels/core/bfloat16.h"
#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/float8.h"
#include "kernels/core/shape.h"

namespace hearth {

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::kF32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::kBF16;
};
template <>
struct DTypeOf<Float8E4M3> {
  static constexpr DType kValue = DType::kF8E4M3;
};
template <>
struct DTypeOf<Float8E5M2> {
  static constexpr DType kValue = DType::kF8E5M2;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType kValue = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType kValue = DType::kI64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType kValue = DType::kU8;
};

// The storage is owned elsewhere and must outlive every use of the view, including the work that is
// still queued on a stream. A default-constructed view is "absent": it stands for an optional
// operand.
class TensorView {
 public:
  TensorView() = default;
  TensorView(void* data, DType dtype, Shape shape) : data_(data), dtype_(dtype), shape_(shape) {}
  template <typename T>
  TensorView(T* data, Shape shape) : TensorView(data, DTypeOf<T>::kValue, shape) {}

  explicit operator bool() const { return data_ != nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * SizeOf(dtype_); }

  // The elements as T; T must be the view's type.
  template <typename T>
  T* as() const {
    CHECK(dtype_ == DTypeOf<T>::kValue, "a tensor of {} was read as {}", Name(dtype_),
          Name(DTypeOf<T>::kValue));
    return static_cast<T*>(data_);
  }

  // Rows [begin, begin + count) along the first axis.
  TensorView Rows(int64_t begin, int64_t count) const;
  // The same elements under another shape of equal size.
  TensorView Reshape(Shape shape) const;
  // Elements [begin, begin + count) as a vector.
  TensorView Flat(int64_t begin, int64_t count) const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
};

}  // namespace hearth
