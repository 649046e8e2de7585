#include "kernels/api/attention.h"

#include <cmath>

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

namespace {

// Checks what both directions share and returns the number of tokens.
int64_t CheckInputs(const AttentionShape& shape, const TensorView& qkv, const TensorView& offsets) {
  CHECK(shape.heads >= 1 && shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0 &&
            shape.head_dim >= 1,
        "attention: {} heads, {} key/value heads of dimension {}", shape.heads, shape.kv_heads,
        shape.head_dim);
  CHECK(std::isfinite(shape.softmax_scale), "attention: softmax scale {}", shape.softmax_scale);
  CheckRank({"attention.qkv", qkv}, 3);
  const int64_t tokens = qkv.shape()[0];
  CheckShape({"attention.qkv", qkv}, {tokens, shape.heads + 2 * shape.kv_heads, shape.head_dim});
  CheckStorage({"attention.qkv", qkv});
  CheckRank({"attention.sequence_offsets", offsets}, 1);
  CheckType({"attention.sequence_offsets", offsets}, DType::kI32);
  CHECK(offsets.elements() >= 2, "attention: {} sequence offsets for no sequence",
        offsets.elements());
  const int64_t capacity = offsets.elements() - 1;
  CHECK(shape.sequence_len == 0 ||
            (shape.sequence_len > 0 && capacity <= tokens / shape.sequence_len),
        "attention: {} sequences of {} in {} tokens", capacity, shape.sequence_len, tokens);
  return tokens;
}

}  // namespace

std::string_view Name(AttentionProvider provider) {
  switch (provider) {
    case AttentionProvider::kAuto:
      return "auto";
    case AttentionProvider::kOwn:
      return "own";
    case AttentionProvider::kCudnn:
      return "cudnn";
  }
  return "";
}

void Validate(const AttentionForwardArgs& args) {
  const int64_t tokens = CheckInputs(args.shape, args.qkv, args.sequence_offsets);
  const NamedView out{"attention.out", args.out};
  const NamedView log_sum_exp{"attention.log_sum_exp", args.log_sum_exp};
  CheckTensor(out, {tokens, args.shape.heads, args.shape.head_dim}, args.qkv.dtype());
  CheckTensor(log_sum_exp, {args.shape.heads, tokens}, DType::kF32);
  const NamedView workspace{"attention.workspace", args.workspace};
  CheckWorkspace(workspace, 0);
  CheckDisjoint(out, {{"attention.qkv", args.qkv}, log_sum_exp, workspace});
  CheckDisjoint(log_sum_exp, {{"attention.qkv", args.qkv}, workspace});
  CheckDisjoint(workspace, {{"attention.qkv", args.qkv}});
}

void Validate(const AttentionBackwardArgs& args) {
  const int64_t tokens = CheckInputs(args.shape, args.qkv, args.sequence_offsets);
  const DType dtype = args.qkv.dtype();
  const Shape out{tokens, args.shape.heads, args.shape.head_dim};
  CheckTensor({"attention.out", args.out}, out, dtype);
  CheckTensor({"attention.d_out", args.d_out}, out, dtype);
  CheckTensor({"attention.log_sum_exp", args.log_sum_exp}, {args.shape.heads, tokens}, DType::kF32);
  CheckTensor({"attention.d_qkv", args.d_qkv}, args.qkv.shape(), dtype);
  CheckWorkspace({"attention.workspace", args.workspace},
                 AttentionBackwardWorkspaceBytes(args.shape, tokens));
  for (const NamedView& written :
       {NamedView{"attention.d_qkv", args.d_qkv}, {"attention.workspace", args.workspace}}) {
    CheckDisjoint(written, {{"attention.qkv", args.qkv},
                            {"attention.out", args.out},
                            {"attention.d_out", args.d_out},
                            {"attention.log_sum_exp", args.log_sum_exp}});
  }
  CheckDisjoint({"attention.d_qkv", args.d_qkv}, {{"attention.workspace", args.workspace}});
}

}  // namespace hearth
