#include "kernels/api/rope.h"

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

namespace {

struct RopeShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
};

// What forward and backward share. `qkv` has the layout of the named tensor.
void CheckCommon(const RopeShape& heads, NamedView qkv, const TensorView& positions,
                 const TensorView& cos_sin, const QkNormWeights& norm) {
  CHECK(heads.heads > 0 && heads.kv_heads > 0, "rope with {} query and {} key/value heads",
        heads.heads, heads.kv_heads);
  CheckRank(qkv, 3);
  CheckStorage(qkv);
  const Shape& shape = qkv.view.shape();
  const int64_t head_dim = shape[2];
  CHECK(shape[1] == heads.heads + 2 * heads.kv_heads,
        "{} has shape {} for {} query and {} key/value heads", qkv.name, shape, heads.heads,
        heads.kv_heads);
  CHECK(head_dim > 0 && head_dim % 2 == 0, "{} has {} columns a head, an even number is needed",
        qkv.name, head_dim);
  CheckTensor({"rope.positions", positions}, {shape[0]}, DType::kI32);
  CheckRank({"rope.cos_sin", cos_sin}, 2);
  CheckTensor({"rope.cos_sin", cos_sin}, {cos_sin.shape()[0], head_dim}, DType::kF32);
  CHECK(static_cast<bool>(norm.q) == static_cast<bool>(norm.k),
        "rope.norm has only one of its weights (q: {}, k: {})", static_cast<bool>(norm.q),
        static_cast<bool>(norm.k));
  if (!norm) return;
  CheckTensor({"rope.norm.q", norm.q}, {head_dim}, qkv.view.dtype());
  CheckTensor({"rope.norm.k", norm.k}, {head_dim}, qkv.view.dtype());
  CHECK(norm.epsilon > 0, "rope.norm.epsilon is {}", norm.epsilon);
}

constexpr std::string_view kNoNorm = "but there is no norm";

}  // namespace

void Validate(const RopeForwardArgs& args) {
  const NamedView qkv{"rope.qkv", args.qkv};
  CheckCommon({args.heads, args.kv_heads}, qkv, args.positions, args.cos_sin, args.norm);
  const Shape& shape = args.qkv.shape();
  const NamedView out{"rope.out", args.out};
  const NamedView rstd{"rope.rstd", args.rstd};
  const NamedView positions{"rope.positions", args.positions};
  const NamedView cos_sin{"rope.cos_sin", args.cos_sin};
  const NamedView norm_q{"rope.norm.q", args.norm.q};
  const NamedView norm_k{"rope.norm.k", args.norm.k};
  CheckTensor(out, shape, args.qkv.dtype());
  CheckDisjoint(out, {positions, cos_sin, norm_q, norm_k, rstd});
  if (args.norm) {
    CheckTensor(rstd, {shape[0], args.heads + args.kv_heads}, DType::kF32);
    CheckDisjoint(rstd, {qkv, positions, cos_sin, norm_q, norm_k});
    CheckDisjoint(out, {qkv});
  } else {
    CheckAbsent(rstd, kNoNorm);
    CheckSameOrDisjoint(out, qkv);
  }
}

void Validate(const RopeBackwardArgs& args) {
  const NamedView d_out{"rope.d_out", args.d_out};
  CheckCommon({args.heads, args.kv_heads}, d_out, args.positions, args.cos_sin, args.norm);
  const Shape& shape = args.d_out.shape();
  const NamedView d_qkv{"rope.d_qkv", args.d_qkv};
  const NamedView qkv{"rope.qkv", args.qkv};
  const NamedView rstd{"rope.rstd", args.rstd};
  const NamedView d_norm_q{"rope.d_norm_q", args.d_norm_q};
  const NamedView d_norm_k{"rope.d_norm_k", args.d_norm_k};
  const NamedView workspace{"rope.workspace", args.workspace};
  const NamedView positions{"rope.positions", args.positions};
  const NamedView cos_sin{"rope.cos_sin", args.cos_sin};
  const NamedView norm_q{"rope.norm.q", args.norm.q};
  const NamedView norm_k{"rope.norm.k", args.norm.k};
  CheckTensor(d_qkv, shape, args.d_out.dtype());
  CheckSameOrDisjoint(d_qkv, d_out);
  CheckDisjoint(d_qkv, {positions, cos_sin, norm_q, norm_k, qkv, rstd, d_norm_q, d_norm_k});
  if (!args.norm) {
    CheckAbsent(qkv, kNoNorm);
    CheckAbsent(rstd, kNoNorm);
    CheckAbsent(d_norm_q, kNoNorm);
    CheckAbsent(d_norm_k, kNoNorm);
    return;
  }
  CheckTensor(qkv, shape, args.d_out.dtype());
  CheckTensor(rstd, {shape[0], args.heads + args.kv_heads}, DType::kF32);
  for (const NamedView& d_norm : {d_norm_q, d_norm_k}) {
    CheckShape(d_norm, {shape[2]});
    CheckStorage(d_norm);
    CheckDisjoint(d_norm, {d_out, positions, cos_sin, norm_q, norm_k, qkv, rstd});
  }
  CheckDisjoint(d_norm_q, {d_norm_k});
  CheckWorkspace(workspace,
                 RopeBackwardWorkspaceBytes(shape[0], args.heads, args.kv_heads, shape[2]));
  CheckDisjoint(workspace,
                {d_out, positions, cos_sin, norm_q, norm_k, qkv, rstd, d_norm_q, d_norm_k, d_qkv});
}

}  // namespace hearth
