#include "runtime/bench/op_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "kernels/core/check.h"

namespace hearth {

namespace {

using Views = std::initializer_list<TensorView>;

// Of those that are given.
double Bytes(Views views) {
  double bytes = 0;
  for (const TensorView& view : views) bytes += view ? static_cast<double>(view.bytes()) : 0.0;
  return bytes;
}

double Bytes(const QuantizedOutput& output) { return Bytes({output.values, output.transposed}); }

std::vector<TensorView> Given(Views views) {
  std::vector<TensorView> given;
  std::copy_if(views.begin(), views.end(), std::back_inserter(given),
               [](const TensorView& view) { return static_cast<bool>(view); });
  return given;
}

bool Same(const TensorView& a, const TensorView& b) { return a && b && a.data() == b.data(); }

// "[16384, 3584] bf16".
std::string Text(const TensorView& view) {
  return Format("{} {}", view.shape(), Name(view.dtype()));
}

// " f8_e4m3 + transposed, current scale".
std::string Text(const QuantizedOutput& output) {
  if (!output) return "";
  const TensorView& any = output.values ? output.values : output.transposed;
  const char* what = !output.values ? " transposed" : output.transposed ? " + transposed" : "";
  return fmt::format(" -> {}{}, {} scale", Name(any.dtype()), what,
                     output.mode == ScaleMode::kCurrent    ? "current"
                     : output.mode == ScaleMode::kVerified ? "verified"
                                                           : "given");
}

// The rows that as many tokens can name.
double NamedRowBytes(const TensorView& tokens, const TensorView& table) {
  const int64_t rows = std::min(tokens.elements(), table.shape()[0]);
  return static_cast<double>(rows * table.shape()[1] * SizeOf(table.dtype()));
}

}  // namespace

double OpProfiler::CausalFlops(const AttentionShape& shape) const {
  const auto tokens = static_cast<double>(sequence_len_);
  return static_cast<double>(sequences_ * shape.heads * shape.head_dim) * tokens * (tokens + 1);
}

OpProfile OpProfiler::operator()(const GemmArgs& args) const {
  const GemmShape shape = ShapeOf(args);
  std::string text =
      fmt::format("{} x {} x {} {}", shape.m, shape.n, shape.k, Name(args.a.dtype()));
  if (args.a.dtype() != args.b.dtype()) text += fmt::format(" x {}", Name(args.b.dtype()));
  text += fmt::format(" -> {}", Name(args.out.dtype()));
  if (args.a_transposed) text += ", a^T";
  if (args.b_transposed) text += ", b^T";
  if (args.bias) text += ", + bias";
  const bool accumulates = Same(args.addend, args.out);
  if (args.addend) text += accumulates ? ", +=" : ", + addend";
  if (args.fast_accumulation) text += ", fast accumulation";
  return {.op = "gemm",
          .shape = text,
          .bytes = Bytes({args.a, args.b, args.bias, args.addend, args.out}),
          .flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                   static_cast<double>(shape.k),
          .flop_type = args.a.dtype(),
          .updated = accumulates ? Given({args.out}) : Given({})};
}

OpProfile OpProfiler::operator()(const AttentionForwardArgs& args) const {
  return {.op = "attention",
          .shape = fmt::format("{}, sequences of {}", Text(args.qkv), sequence_len_),
          .bytes = Bytes({args.qkv, args.out, args.log_sum_exp}),
          .flops = 2 * CausalFlops(args.shape),
          .flop_type = args.qkv.dtype()};
}

// Scores again, and the gradients of probabilities, values, queries and keys.
OpProfile OpProfiler::operator()(const AttentionBackwardArgs& args) const {
  return {.op = "attention backward",
          .shape = fmt::format("{}, sequences of {}", Text(args.qkv), sequence_len_),
          .bytes = Bytes({args.qkv, args.out, args.log_sum_exp, args.d_out, args.d_qkv}),
          .flops = 5 * CausalFlops(args.shape),
          .flop_type = args.qkv.dtype()};
}

OpProfile OpProfiler::operator()(const RmsNormForwardArgs& args) const {
  return {.op = "rms norm",
          .shape = Text(args.x) + Text(args.quantized),
          .bytes = Bytes({args.x, args.weight, args.out, args.rstd}) + Bytes(args.quantized)};
}

OpProfile OpProfiler::operator()(const RmsNormBackwardArgs& args) const {
  const bool in_place = Same(args.d_residual, args.d_x);
  return {.op = "rms norm backward",
          .shape = Text(args.x) + (args.d_residual ? ", + residual" : ""),
          .bytes = Bytes({args.d_out, args.x, args.weight, args.rstd, args.d_residual, args.d_x,
                          args.d_weight, args.d_weight}),
          .updated = in_place ? Given({args.d_x, args.d_weight}) : Given({args.d_weight})};
}

OpProfile OpProfiler::operator()(const RopeForwardArgs& args) const {
  const bool in_place = Same(args.qkv, args.out);
  // In place the values stay where they are.
  const double values = in_place ? static_cast<double>(args.kv_heads) /
                                       static_cast<double>(args.heads + 2 * args.kv_heads)
                                 : 0.0;
  return {
      .op = "rope",
      .shape = Text(args.qkv) + (args.norm ? ", + qk norm" : "") + (in_place ? ", in place" : ""),
      .bytes = Bytes({args.qkv, args.out}) * (1 - values) +
               Bytes({args.positions, args.cos_sin, args.rstd}),
      .updated = in_place ? Given({args.out}) : Given({})};
}

OpProfile OpProfiler::operator()(const RopeBackwardArgs& args) const {
  const bool in_place = Same(args.d_out, args.d_qkv);
  const double values = in_place ? static_cast<double>(args.kv_heads) /
                                       static_cast<double>(args.heads + 2 * args.kv_heads)
                                 : 0.0;
  return {
      .op = "rope backward",
      .shape = Text(args.d_out) + (args.norm ? ", + qk norm" : "") + (in_place ? ", in place" : ""),
      .bytes = Bytes({args.d_out, args.d_qkv, args.qkv}) * (1 - values) +
               Bytes({args.positions, args.cos_sin, args.rstd}),
      .updated = in_place ? Given({args.d_qkv, args.d_norm_q, args.d_norm_k})
                          : Given({args.d_norm_q, args.d_norm_k})};
}

OpProfile OpProfiler::operator()(const SwigluForwardArgs& args) const {
  return {.op = "swiglu",
          .shape = Text(args.gate_up) + Text(args.quantized),
          .bytes = Bytes({args.gate_up, args.out}) + Bytes(args.quantized)};
}

OpProfile OpProfiler::operator()(const SwigluBackwardArgs& args) const {
  const bool in_place = Same(args.gate_up, args.d_gate_up);
  return {.op = "swiglu backward",
          .shape = Text(args.gate_up) + Text(args.quantized),
          .bytes = Bytes({args.d_out, args.gate_up, args.d_gate_up}) + Bytes(args.quantized),
          .updated = in_place ? Given({args.d_gate_up}) : Given({})};
}

OpProfile OpProfiler::operator()(const EmbeddingForwardArgs& args) const {
  return {.op = "embedding",
          .shape = Text(args.out),
          .bytes = Bytes({args.tokens, args.out}) + NamedRowBytes(args.tokens, args.table)};
}

OpProfile OpProfiler::operator()(const EmbeddingBackwardArgs& args) const {
  return {.op = "embedding backward",
          .shape = fmt::format("{} into {}", Text(args.d_out), Text(args.d_table)),
          .bytes = Bytes({args.tokens, args.d_out}) + 2 * NamedRowBytes(args.tokens, args.d_table),
          .updated = Given({args.d_table})};
}

OpProfile OpProfiler::operator()(const CrossEntropyArgs& args) const {
  const bool in_place = Same(args.logits, args.d_logits);
  return {.op = "cross entropy",
          .shape = Text(args.logits) + (args.d_logits_scale ? ", with gradient in f8_e5m2"
                                        : args.d_logits     ? ", with gradient"
                                                            : ""),
          .bytes = Bytes({args.logits, args.targets, args.losses, args.d_logits}),
          .updated = in_place ? Given({args.d_logits}) : Given({})};
}

OpProfile OpProfiler::operator()(const QuantizeArgs& args) const {
  return {.op = "quantize",
          .shape = Text(args.input) + Text(args.output),
          .bytes = Bytes({args.input}) + Bytes(args.output)};
}

OpProfile OpProfiler::operator()(const TransposeArgs& args) const {
  return {.op = "transpose", .shape = Text(args.input), .bytes = Bytes({args.input, args.output})};
}

OpProfile OpProfiler::operator()(const AmaxArgs& args) const {
  return {.op = "amax",
          .shape = Text(args.input),
          .bytes = Bytes({args.input, args.amax}),
          .updated = args.accumulate ? Given({args.amax}) : Given({})};
}

OpProfile OpProfiler::operator()(const ScaleFromAmaxArgs& args) const {
  return {
      .op = "scale from amax", .shape = Text(args.amax), .bytes = Bytes({args.amax, args.scales})};
}

OpProfile OpProfiler::operator()(const CollectAmaxArgs& args) const {
  return {.op = "collect amax",
          .shape = Text(args.amax),
          .bytes = Bytes({args.records}) + 2 * Bytes({args.amax, args.repairs}),
          .updated = Given({args.amax, args.repairs})};
}

OpProfile OpProfiler::operator()(const UpdateScalesArgs& args) const {
  return {.op = "update scales",
          .shape = Text(args.amax),
          .bytes = Bytes({args.amax, args.control, args.history, args.scales}),
          .updated = Given({args.history, args.scales})};
}

OpProfile OpProfiler::operator()(const AdamwArgs& args) const {
  return {
      .op = "adamw",
      .shape = fmt::format("{}, m {}, v {}, gradient {}", Text(args.master), Name(args.m.dtype()),
                           Name(args.v.dtype()), Name(args.gradient.dtype())),
      .bytes = 2 * Bytes({args.master, args.m, args.v}) + Bytes({args.gradient, args.weight}),
      .updated = Given({args.master, args.m, args.v})};
}

OpProfile OpProfiler::operator()(const OrderedSumArgs& args) const {
  double bytes = Bytes({args.out, args.accumulate ? args.out : TensorView{}});
  bool in_place = args.accumulate;
  for (const TensorView& input : args.inputs) {
    bytes += Bytes({input});
    in_place |= Same(input, args.out);
  }
  return {.op = "ordered sum",
          .shape = fmt::format("{} of {}", args.inputs.size(), Text(args.out)),
          .bytes = bytes,
          .updated = in_place ? Given({args.out}) : Given({})};
}

OpProfile OpProfiler::operator()(const ColumnSumArgs& args) const {
  return {.op = "column sum",
          .shape = Text(args.input),
          .bytes = Bytes({args.input, args.out, args.out}),
          .updated = Given({args.out})};
}

OpProfile OpProfiler::operator()(const FixedPointSumArgs& args) const {
  return {.op = "fixed point sum",
          .shape = Text(args.input) +
                   (args.terms == SumTerms::kSquaredBlocks ? ", squares" : ", elements"),
          .bytes = Bytes({args.input, args.sum, args.sum}),
          .updated = Given({args.sum})};
}

OpProfile OpProfiler::operator()(const ClipArgs& args) const {
  return {.op = "clip",
          .shape = "words",
          .bytes = Bytes({args.sum, args.losses, args.norm, args.control})};
}

OpProfile OpProfiler::operator()(const CopyArgs& args) const {
  const auto in_host_memory = [&](const TensorView& view) {
    const auto* begin = static_cast<const std::byte*>(host_memory_.data());
    const auto* at = static_cast<const std::byte*>(view.data());
    return host_memory_ && at >= begin && at < begin + host_memory_.bytes();
  };
  const bool from_host = in_host_memory(args.source), to_host = in_host_memory(args.destination);
  return {
      .op = from_host == to_host ? "copy" : (from_host ? "copy to device" : "copy to host"),
      .shape = fmt::format("{} bytes", args.source.bytes()),
      .bytes = from_host == to_host ? Bytes({args.source, args.destination}) : Bytes({args.source}),
      .host_link = from_host != to_host};
}

OpProfile OpProfiler::operator()(const ZeroArgs& args) const {
  return {.op = "zero",
          .shape = fmt::format("{} bytes", args.destination.bytes()),
          .bytes = Bytes({args.destination})};
}

OpProfile OpProfiler::operator()(const CastArgs& args) const {
  return {.op = "cast",
          .shape = fmt::format("{} -> {}", Text(args.source), Name(args.destination.dtype())),
          .bytes = Bytes({args.source, args.destination})};
}

}  // namespace hearth
