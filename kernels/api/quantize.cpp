#include "kernels/api/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/api/checks.h"

namespace hearth {

namespace {

constexpr uintptr_t kScaleAlignment = 16;

}  // namespace

ScaleRecord MakeScale(float amax, DType format) {
  CHECK(IsFloat8(format), "a scale for {}", Name(format));
  if (std::isnan(amax)) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    return {.inverse = nan, .scale = nan, .amax = nan};
  }
  // Beyond 2^126 the inverse would be subnormal.
  constexpr float kLargestScale = 0x1p126f;
  const float largest = format == DType::kF8E4M3 ? kE4M3Max : kE5M2Max;
  const float scale = amax == 0.0f ? 1.0f : std::min(largest / amax, kLargestScale);
  return {.inverse = 1.0f / scale, .scale = scale, .amax = amax};
}

void Validate(const QuantizedOutput& output, Shape shape) {
  const NamedView scale{"quantized.scale", output.scale};
  const NamedView values{"quantized.values", output.values};
  const NamedView transposed{"quantized.transposed", output.transposed};
  CHECK(shape.rank() == 2, "quantized: a tensor of shape {} is not a matrix", shape);
  CheckTensor(scale, {4}, DType::kF32);
  CHECK(reinterpret_cast<uintptr_t>(output.scale.data()) % kScaleAlignment == 0,
        "quantized.scale at {} is not aligned to {}", output.scale.data(), kScaleAlignment);
  CHECK(output.values || output.transposed, "quantized: no output for a tensor {}", shape);
  if (output.values) {
    CheckShape(values, shape);
    CheckFloat8(values);
    CheckDisjoint(values, {scale, transposed});
  }
  if (output.transposed) {
    CheckShape(transposed, {shape[1], shape[0]});
    CheckFloat8(transposed);
    CheckDisjoint(transposed, {scale});
    CHECK(!output.values || output.values.dtype() == output.transposed.dtype(),
          "quantized.values is {}, quantized.transposed {}", Name(output.values.dtype()),
          Name(output.transposed.dtype()));
  }
}

void Validate(const QuantizeArgs& args) {
  const NamedView input{"quantize.input", args.input};
  CheckRank(input, 2);
  CheckStorage(input);
  Validate(args.output, args.input.shape());
  CheckDisjoint(input, {{"quantized.values", args.output.values},
                        {"quantized.transposed", args.output.transposed},
                        {"quantized.scale", args.output.scale}});
}

void Validate(const TransposeArgs& args) {
  CheckRank({"transpose.input", args.input}, 2);
  CheckFloat8({"transpose.input", args.input});
  CheckTensor({"transpose.output", args.output}, {args.input.shape()[1], args.input.shape()[0]},
              args.input.dtype());
  CheckDisjoint({"transpose.output", args.output}, {{"transpose.input", args.input}});
}

void Validate(const AmaxArgs& args) {
  CheckShape({"amax.input", args.input}, args.input.shape());
  CheckStorage({"amax.input", args.input});
  CheckTensor({"amax.amax", args.amax}, {1}, DType::kF32);
  CheckDisjoint({"amax.amax", args.amax}, {{"amax.input", args.input}});
}

void Validate(const ScaleFromAmaxArgs& args) {
  CheckRank({"scale_from_amax.amax", args.amax}, 1);
  CheckType({"scale_from_amax.amax", args.amax}, DType::kF32);
  CheckTensor({"scale_from_amax.scales", args.scales}, {args.amax.elements(), 4}, DType::kF32);
  CheckDisjoint({"scale_from_amax.scales", args.scales}, {{"scale_from_amax.amax", args.amax}});
  CHECK(IsFloat8(args.format), "scale_from_amax: format {}", Name(args.format));
}

void Validate(const CollectAmaxArgs& args) {
  const NamedView records{"collect_amax.records", args.records};
  const NamedView amax{"collect_amax.amax", args.amax};
  const NamedView repairs{"collect_amax.repairs", args.repairs};
  CheckRank(amax, 1);
  CheckType(amax, DType::kF32);
  CheckTensor(records, {args.amax.elements(), 4}, DType::kF32);
  CheckTensor(repairs, {1}, DType::kI64);
  CheckDisjoint(amax, {records, repairs});
  CheckDisjoint(repairs, {records});
}

void Validate(const UpdateScalesArgs& args) {
  const NamedView amax{"update_scales.amax", args.amax};
  const NamedView control{"update_scales.control", args.control};
  const NamedView history{"update_scales.history", args.history};
  const NamedView scales{"update_scales.scales", args.scales};
  CheckRank(amax, 1);
  CheckType(amax, DType::kF32);
  CheckTensor(control, {2}, DType::kI32);
  CheckTensor(history, {args.amax.elements()}, DType::kF32);
  CheckTensor(scales, {args.amax.elements(), 4}, DType::kF32);
  CheckDisjoint(history, {amax, control, scales});
  CheckDisjoint(scales, {amax, control});
  CHECK(!args.formats.empty() && args.formats.size() <= 32, "update_scales: {} formats",
        args.formats.size());
  for (const DType format : args.formats) {
    CHECK(IsFloat8(format), "update_scales: format {}", Name(format));
  }
}

}  // namespace hearth
