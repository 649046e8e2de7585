#include "kernels/api/gemm.h"

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

namespace {

constexpr int64_t kFloat8Multiple = 16;
constexpr uintptr_t kScaleAlignment = 16;

void CheckScale(NamedView scale) {
  CheckTensor(scale, {4}, DType::kF32);
  CHECK(reinterpret_cast<uintptr_t>(scale.view.data()) % kScaleAlignment == 0,
        "{} at {} is not aligned to {}", scale.name, scale.view.data(), kScaleAlignment);
}

void CheckOperandTypes(const GemmArgs& args, const GemmShape& shape) {
  const DType a = args.a.dtype();
  const DType b = args.b.dtype();
  if (!IsFloat8(a) || !IsFloat8(b)) {
    CHECK((a == DType::kF32 || a == DType::kBF16) && a == b, "gemm: {} times {} is not supported",
          Name(a), Name(b));
    CheckAbsent({"gemm.a_scale", args.a_scale}, "but only f8 operands have scales");
    CheckAbsent({"gemm.b_scale", args.b_scale}, "but only f8 operands have scales");
    CHECK(!args.fast_accumulation, "gemm: fast accumulation of {} operands", Name(a));
    return;
  }
  CHECK(a == DType::kF8E4M3 || b == DType::kF8E4M3, "gemm: {} times {} is not supported", Name(a),
        Name(b));
  CHECK(!args.a_transposed && !args.b_transposed, "gemm: f8 operands {} and {} must be K-major",
        args.a.shape(), args.b.shape());
  CHECK(shape.k % kFloat8Multiple == 0 && shape.n % kFloat8Multiple == 0,
        "gemm: f8 needs k = {} and n = {} in multiples of {}", shape.k, shape.n, kFloat8Multiple);
  CheckScale({"gemm.a_scale", args.a_scale});
  CheckScale({"gemm.b_scale", args.b_scale});
}

}  // namespace

GemmShape ShapeOf(const GemmArgs& args) {
  CheckRank({"gemm.a", args.a}, 2);
  CheckRank({"gemm.b", args.b}, 2);
  return {.m = args.a.shape()[args.a_transposed ? 1 : 0],
          .n = args.b.shape()[args.b_transposed ? 1 : 0],
          .k = args.a.shape()[args.a_transposed ? 0 : 1]};
}

void Validate(const GemmArgs& args) {
  const GemmShape shape = ShapeOf(args);
  CHECK(shape.k >= 1 && args.b.shape()[args.b_transposed ? 0 : 1] == shape.k,
        "gemm: a {}{} and b {}{} do not share k", args.a.shape(), args.a_transposed ? "^T" : "",
        args.b.shape(), args.b_transposed ? "^T" : "");
  CheckOperandTypes(args, shape);
  const NamedView out{"gemm.out", args.out};
  CheckShape(out, {shape.m, shape.n});
  CheckStorage(out);
  if (args.bias) {
    CheckShape({"gemm.bias", args.bias}, {shape.n});
    CHECK(args.bias.dtype() == args.out.dtype() || args.bias.dtype() == DType::kBF16,
          "gemm.bias is {}, {} or bf16 was expected", Name(args.bias.dtype()),
          Name(args.out.dtype()));
  }
  if (args.addend) {
    CheckShape({"gemm.addend", args.addend}, {shape.m, shape.n});
    CheckStorage({"gemm.addend", args.addend});
    CheckSameOrDisjoint(out, {"gemm.addend", args.addend});
  }
  CheckWorkspace({"gemm.workspace", args.workspace}, GemmWorkspaceBytes());
  CheckDisjoint(out, {{"gemm.a", args.a}, {"gemm.b", args.b}, {"gemm.bias", args.bias}});
  CheckDisjoint({"gemm.workspace", args.workspace},
                {{"gemm.a", args.a}, {"gemm.b", args.b}, {"gemm.out", args.out}});
}

}  // namespace hearth
