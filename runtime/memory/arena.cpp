#include "runtime/memory/arena.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

Arena::Arena(Device& device, MemoryKind kind, int64_t bytes, std::string name)
    : buffer_(device.Allocate(bytes, kind)), name_(std::move(name)) {}

TensorView Arena::View(int64_t offset, DType dtype, Shape shape) const {
  CHECK(offset >= 0, "a tensor of {} that the plan did not place", name_);
  const TensorView view = buffer_.View(offset, dtype, shape);
  high_water_ = std::max(high_water_, offset + view.bytes());
  return view;
}

TensorView Arena::Bytes() const { return buffer_.View(0, DType::kU8, {buffer_.bytes()}); }

}  // namespace hearth
