// Element types of tensors.
#pragma once

#include <cstdint>
#include <string_view>

namespace hearth {

enum class DType : uint8_t { kF32, kBF16, kF8E4M3, kF8E5M2, kI32, kI64, kU8 };

// Bytes per element.
constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr bool IsFloat8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

// "f32", "bf16", "f8_e4m3", "f8_e5m2", "i32", "i64", "u8".
std::string_view Name(DType dtype);

}  // namespace hearth
