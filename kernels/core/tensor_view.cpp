#include "kernels/core/tensor_view.h"

namespace hearth {

TensorView TensorView::Rows(int64_t begin, int64_t count) const {
  CHECK(shape_.rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0],
        "rows {} + {} of a tensor with shape {}", begin, count, shape_);
  Shape rows;
  int64_t row_elements = 1;
  switch (shape_.rank()) {
    case 1:
      rows = {count};
      break;
    case 2:
      rows = {count, shape_[1]};
      row_elements = shape_[1];
      break;
    case 3:
      rows = {count, shape_[1], shape_[2]};
      row_elements = shape_[1] * shape_[2];
      break;
    default:
      rows = {count, shape_[1], shape_[2], shape_[3]};
      row_elements = shape_[1] * shape_[2] * shape_[3];
  }
  auto* base = static_cast<std::byte*>(data_);
  return {base + begin * row_elements * SizeOf(dtype_), dtype_, rows};
}

TensorView TensorView::Reshape(Shape shape) const {
  CHECK(shape.elements() == elements(), "shape {} viewed as {}", shape_, shape);
  return {data_, dtype_, shape};
}

TensorView TensorView::Flat(int64_t begin, int64_t count) const {
  return Reshape({elements()}).Rows(begin, count);
}

}  // namespace hearth
