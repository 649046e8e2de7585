// Owned memory of one device or of the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/core/tensor_view.h"

namespace hearth {

// kDevice: where kernels run. kPinnedHost: host memory that copy engines reach; both are the same
// kind of memory on the CPU backend.
enum class MemoryKind : uint8_t { kDevice, kPinnedHost };

class Buffer {
 public:
  // Frees the memory; never throws.
  using Deleter = void (*)(void* data, int64_t bytes, void* context) noexcept;

  Buffer() = default;
  Buffer(void* data, int64_t bytes, Deleter deleter, void* context)
      : data_(data), bytes_(bytes), deleter_(deleter), context_(context) {}
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    Swap(taken);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) deleter_(data_, bytes_, context_);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  int64_t bytes() const { return bytes_; }

  // A tensor that starts `offset_bytes` into the buffer.
  TensorView View(int64_t offset_bytes, DType dtype, Shape shape) const {
    CHECK(offset_bytes >= 0 && offset_bytes + shape.elements() * SizeOf(dtype) <= bytes_,
          "a view of {} {} at byte {} of a buffer of {} bytes", shape, Name(dtype), offset_bytes,
          bytes_);
    return {data() + offset_bytes, dtype, shape};
  }

 private:
  void Swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(deleter_, other.deleter_);
    std::swap(context_, other.context_);
  }

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Deleter deleter_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace hearth
