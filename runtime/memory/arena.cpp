#include "runtime/memory/arena.h"

#include "kernels/core/check.h"

namespace hearth {

Arena::Arena(Device& device, MemoryKind kind, int64_t bytes, std::string name)
    : buffer_(device.Allocate(bytes, kind)), name_(std::move(name)) {}

TensorView Arena::View(int64_t offset, DType dtype, Shape shape) const {
  CHECK(offset >= 0, "a tensor of {} that the plan did not place", name_);
  const TensorView view = buffer_.View(offset, dtype, shape);
  // The host optimizer's thread looks up views too.
  const int64_t end = offset + view.bytes();
  int64_t highest = high_water_.load(std::memory_order_relaxed);
  while (highest < end && !high_water_.compare_exchange_weak(highest, end)) {
  }
  return view;
}

TensorView Arena::Bytes() const { return buffer_.View(0, DType::kU8, {buffer_.bytes()}); }

}  // namespace hearth
