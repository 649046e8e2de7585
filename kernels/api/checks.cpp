#include "kernels/api/checks.h"

#include <cstdint>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr uintptr_t kWorkspaceAlignment = 16;

uintptr_t Begin(const TensorView& view) { return reinterpret_cast<uintptr_t>(view.data()); }
uintptr_t End(const TensorView& view) { return Begin(view) + static_cast<uintptr_t>(view.bytes()); }

void CheckPresent(NamedView tensor) {
  CHECK(tensor.view, "{} is absent", tensor.name);
  CHECK(Begin(tensor.view) % static_cast<uintptr_t>(SizeOf(tensor.view.dtype())) == 0,
        "{} of {} is not aligned to its elements: {}", tensor.name, Name(tensor.view.dtype()),
        tensor.view.data());
}

}  // namespace

void CheckRank(NamedView tensor, int rank) {
  CheckPresent(tensor);
  CHECK(tensor.view.shape().rank() == rank, "{} has shape {}, rank {} was expected", tensor.name,
        tensor.view.shape(), rank);
}

void CheckShape(NamedView tensor, const Shape& shape) {
  CheckPresent(tensor);
  CHECK(tensor.view.shape() == shape, "{} has shape {}, {} was expected", tensor.name,
        tensor.view.shape(), shape);
}

void CheckTensor(NamedView tensor, const Shape& shape, DType dtype) {
  CheckShape(tensor, shape);
  CheckType(tensor, dtype);
}

void CheckType(NamedView tensor, DType dtype) {
  CHECK(tensor.view.dtype() == dtype, "{} is {}, {} was expected", tensor.name,
        Name(tensor.view.dtype()), Name(dtype));
}

void CheckStorage(NamedView tensor) {
  const DType dtype = tensor.view.dtype();
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "{} is {}, f32 or bf16 was expected",
        tensor.name, Name(dtype));
}

void CheckFloat8(NamedView tensor) {
  CHECK(IsFloat8(tensor.view.dtype()), "{} is {}, f8_e4m3 or f8_e5m2 was expected", tensor.name,
        Name(tensor.view.dtype()));
}

void CheckAbsent(NamedView tensor, std::string_view why) {
  CHECK(!tensor.view, "{} is given (shape {}), {}", tensor.name, tensor.view.shape(), why);
}

void CheckWorkspace(NamedView workspace, int64_t bytes) {
  if (bytes == 0 && !workspace.view) return;
  CHECK(workspace.view, "{} is absent, {} bytes are needed", workspace.name, bytes);
  CheckType(workspace, DType::kU8);
  CHECK(workspace.view.bytes() >= bytes, "{} has {} bytes, {} are needed", workspace.name,
        workspace.view.bytes(), bytes);
  CHECK(Begin(workspace.view) % kWorkspaceAlignment == 0, "{} at {} is not aligned to {}",
        workspace.name, workspace.view.data(), kWorkspaceAlignment);
}

bool Overlap(const TensorView& a, const TensorView& b) {
  return a && b && Begin(a) < End(b) && Begin(b) < End(a);
}

void CheckDisjoint(NamedView written, std::initializer_list<NamedView> others) {
  for (const NamedView& other : others) {
    CHECK(!Overlap(written.view, other.view), "{} [{}, +{}) overlaps {} [{}, +{})", written.name,
          written.view.data(), written.view.bytes(), other.name, other.view.data(),
          other.view.bytes());
  }
}

void CheckSameOrDisjoint(NamedView written, NamedView other) {
  const bool same = written.view.data() == other.view.data() &&
                    written.view.bytes() == other.view.bytes() &&
                    written.view.dtype() == other.view.dtype();
  if (!same) CheckDisjoint(written, {other});
}

}  // namespace hearth
