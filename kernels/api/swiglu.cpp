#include "kernels/api/swiglu.h"

#include "kernels/api/checks.h"

namespace hearth {

namespace {

// Checks gate_up and returns the number of ffn columns.
int64_t FfnColumns(const TensorView& gate_up) {
  CheckRank({"swiglu.gate_up", gate_up}, 2);
  CheckStorage({"swiglu.gate_up", gate_up});
  CHECK(gate_up.shape()[1] > 0, "swiglu.gate_up has no columns: shape {}", gate_up.shape());
  return DivExact(gate_up.shape()[1], 2);
}

}  // namespace

void Validate(const SwigluForwardArgs& args) {
  const int64_t ffn = FfnColumns(args.gate_up);
  const Shape shape = {args.gate_up.shape()[0], ffn};
  CHECK(args.out || args.quantized, "swiglu has no output: neither out nor quantized is given");
  if (args.out) CheckTensor({"swiglu.out", args.out}, shape, args.gate_up.dtype());
  if (args.quantized) Validate(args.quantized, shape);
  const NamedView gate_up{"swiglu.gate_up", args.gate_up};
  const NamedView values{"swiglu.quantized.values", args.quantized.values};
  const NamedView transposed{"swiglu.quantized.transposed", args.quantized.transposed};
  CheckDisjoint({"swiglu.out", args.out}, {gate_up, values, transposed});
  CheckDisjoint(values, {gate_up});
  CheckDisjoint(transposed, {gate_up});
}

void Validate(const SwigluBackwardArgs& args) {
  const int64_t ffn = FfnColumns(args.gate_up);
  const Shape& shape = args.gate_up.shape();
  const DType storage = args.gate_up.dtype();
  CheckTensor({"swiglu.d_out", args.d_out}, {shape[0], ffn}, storage);
  CHECK(args.d_gate_up || args.quantized,
        "swiglu has no output: neither d_gate_up nor quantized is given");
  if (args.d_gate_up) CheckTensor({"swiglu.d_gate_up", args.d_gate_up}, shape, storage);
  if (args.quantized) Validate(args.quantized, shape);
  const NamedView d_out{"swiglu.d_out", args.d_out};
  const NamedView gate_up{"swiglu.gate_up", args.gate_up};
  const NamedView d_gate_up{"swiglu.d_gate_up", args.d_gate_up};
  const NamedView values{"swiglu.quantized.values", args.quantized.values};
  const NamedView transposed{"swiglu.quantized.transposed", args.quantized.transposed};
  CheckSameOrDisjoint(d_gate_up, gate_up);
  CheckDisjoint(d_gate_up, {d_out, values, transposed});
  CheckDisjoint(values, {d_out, gate_up});
  CheckDisjoint(transposed, {d_out, gate_up});
}

}  // namespace hearth
