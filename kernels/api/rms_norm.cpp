#include "kernels/api/rms_norm.h"

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

void Validate(const RmsNormForwardArgs& args) {
  CheckRank({"rms_norm.x", args.x}, 2);
  CheckStorage({"rms_norm.x", args.x});
  const Shape& shape = args.x.shape();
  const DType storage = args.x.dtype();
  CHECK(shape[1] > 0, "rms_norm.x has no columns: shape {}", shape);
  CheckTensor({"rms_norm.weight", args.weight}, {shape[1]}, storage);
  CheckTensor({"rms_norm.rstd", args.rstd}, {shape[0]}, DType::kF32);
  CHECK(args.epsilon > 0, "rms_norm.epsilon is {}", args.epsilon);
  CHECK(args.out || args.quantized, "rms_norm has no output: neither out nor quantized is given");
  if (args.out) CheckTensor({"rms_norm.out", args.out}, shape, storage);
  if (args.quantized) Validate(args.quantized, shape);
  const NamedView x{"rms_norm.x", args.x};
  const NamedView weight{"rms_norm.weight", args.weight};
  const NamedView out{"rms_norm.out", args.out};
  const NamedView rstd{"rms_norm.rstd", args.rstd};
  const NamedView values{"rms_norm.quantized.values", args.quantized.values};
  const NamedView transposed{"rms_norm.quantized.transposed", args.quantized.transposed};
  CheckDisjoint(rstd, {x, weight, out, values, transposed});
  CheckDisjoint(out, {x, weight, values, transposed});
  CheckDisjoint(values, {x, weight});
  CheckDisjoint(transposed, {x, weight});
}

void Validate(const RmsNormBackwardArgs& args) {
  CheckRank({"rms_norm.x", args.x}, 2);
  CheckStorage({"rms_norm.x", args.x});
  const Shape& shape = args.x.shape();
  const DType storage = args.x.dtype();
  CHECK(shape[1] > 0, "rms_norm.x has no columns: shape {}", shape);
  CheckTensor({"rms_norm.d_out", args.d_out}, shape, storage);
  CheckTensor({"rms_norm.weight", args.weight}, {shape[1]}, storage);
  CheckTensor({"rms_norm.rstd", args.rstd}, {shape[0]}, DType::kF32);
  if (args.d_residual) CheckTensor({"rms_norm.d_residual", args.d_residual}, shape, storage);
  CheckTensor({"rms_norm.d_x", args.d_x}, shape, storage);
  CheckShape({"rms_norm.d_weight", args.d_weight}, {shape[1]});
  CheckStorage({"rms_norm.d_weight", args.d_weight});
  CheckWorkspace({"rms_norm.workspace", args.workspace},
                 RmsNormBackwardWorkspaceBytes(shape[0], shape[1]));
  const NamedView d_out{"rms_norm.d_out", args.d_out};
  const NamedView x{"rms_norm.x", args.x};
  const NamedView weight{"rms_norm.weight", args.weight};
  const NamedView rstd{"rms_norm.rstd", args.rstd};
  const NamedView d_residual{"rms_norm.d_residual", args.d_residual};
  const NamedView d_x{"rms_norm.d_x", args.d_x};
  const NamedView d_weight{"rms_norm.d_weight", args.d_weight};
  CheckDisjoint({"rms_norm.workspace", args.workspace},
                {d_out, x, weight, rstd, d_residual, d_x, d_weight});
  CheckDisjoint(d_x, {d_out, x, weight, rstd, d_weight});
  CheckSameOrDisjoint(d_x, d_residual);
  CheckDisjoint(d_weight, {d_out, x, weight, rstd, d_residual});
}

}  // namespace hearth
