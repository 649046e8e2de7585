// Numbers as files hold them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "kernels/core/check.h"

namespace hearth {

static_assert(std::endian::native == std::endian::little,
              "token files are read and written as the host's own numbers");

// The T at byte `offset`, which need not be aligned; the caller has checked sizes, so a miss is a
// broken invariant.
template <typename T>
T LoadLittleEndian(std::span<const std::byte> bytes, int64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  CHECK(offset >= 0 && static_cast<int64_t>(bytes.size()) - offset >= int64_t{sizeof(T)},
        "{} bytes at {} of {}", sizeof(T), offset, bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

}  // namespace hearth
