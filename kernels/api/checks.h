// What every Validate is made of. Each function throws CheckError with the tensor's name and
// values.
#pragma once

#include <initializer_list>
#include <string_view>

#include "kernels/core/tensor_view.h"

namespace hearth {

// An operand with the name it goes by in messages, such as "rms_norm.x".
struct NamedView {
  std::string_view name;
  const TensorView& view;
};

// Present, and of a rank.
void CheckRank(NamedView tensor, int rank);
// Present, and of exactly this shape.
void CheckShape(NamedView tensor, const Shape& shape);
// Present, of this shape, and of this type.
void CheckTensor(NamedView tensor, const Shape& shape, DType dtype);
void CheckType(NamedView tensor, DType dtype);
// f32 | bf16.
void CheckStorage(NamedView tensor);
void CheckFloat8(NamedView tensor);
// Not given.
void CheckAbsent(NamedView tensor, std::string_view why);
// At least so many bytes of u8, aligned to 16; may be absent when none are needed.
void CheckWorkspace(NamedView workspace, int64_t bytes);

bool Overlap(const TensorView& a, const TensorView& b);
// No byte of `written` is in any of the others; absent ones are passed over.
void CheckDisjoint(NamedView written, std::initializer_list<NamedView> others);
// The very same elements, or no byte in common.
void CheckSameOrDisjoint(NamedView written, NamedView other);

}  // namespace hearth
