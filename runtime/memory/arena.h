// One allocation of a tier that a plan has cut into tensors.
#pragma once

#include <atomic>
#include <string>

#include "kernels/core/device.h"

namespace hearth {

// Takes exactly the bytes that the plan says. Keeps a high-water mark of what was handed out, which
// must equal the plan at the end of a run.
class Arena {
 public:
  // `device` must outlive the arena. The content is as Device::Allocate says.
  Arena(Device& device, MemoryKind kind, int64_t bytes, std::string name);

  // The tensor at a planned offset; CheckError outside the arena. Any thread.
  TensorView View(int64_t offset, DType dtype, Shape shape) const;
  TensorView Bytes() const;

  const std::string& name() const { return name_; }
  int64_t bytes() const { return buffer_.bytes(); }
  int64_t high_water_bytes() const { return high_water_; }

 private:
  Buffer buffer_;
  const std::string name_;
  mutable std::atomic<int64_t> high_water_{0};
};

}  // namespace hearth
