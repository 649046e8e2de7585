#include "kernels/api/reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

namespace {

__extension__ using Int128 = __int128;

// Carries upwards: afterwards 0 <= limb < 2^32 for all but the top one, which has the sign.
void Normalize(std::array<int64_t, 4>& limbs) {
  for (size_t i = 0; i + 1 < limbs.size(); ++i) {
    limbs[i + 1] += limbs[i] >> 32;
    limbs[i] &= 0xffffffff;
  }
}

}  // namespace

void AddTerm(FixedPointSum& sum, float term) {
  const uint32_t bits = std::bit_cast<uint32_t>(term);
  const auto exponent_field = static_cast<int>((bits >> 23) & 0xffu);
  constexpr int kTooLarge = 127 + 62;
  if (exponent_field >= kTooLarge) {
    ++sum.not_representable;
    return;
  }
  // |term| = significand * 2^(exponent - 150), here counted in units of 2^-64.
  const int exponent = exponent_field == 0 ? 1 : exponent_field;
  const int32_t significand =
      static_cast<int32_t>(bits & 0x7fffffu) | (exponent_field == 0 ? 0 : int32_t{1} << 23);
  const Int128 integer = bits >> 31 ? -significand : significand;
  const int shift = exponent - 150 + 64;
  // A right shift of a negative number rounds towards minus infinity.
  const Int128 fixed = shift >= 0 ? integer << shift : integer >> std::min(-shift, 31);
  for (int i = 0; i < 3; ++i) {
    sum.limbs[static_cast<size_t>(i)] += static_cast<int64_t>((fixed >> (32 * i)) & 0xffffffff);
  }
  sum.limbs[3] += static_cast<int64_t>(fixed >> 96);
  Normalize(sum.limbs);
}

void AddSum(FixedPointSum& sum, const FixedPointSum& other) {
  for (size_t i = 0; i < sum.limbs.size(); ++i) sum.limbs[i] += other.limbs[i];
  sum.not_representable += other.not_representable;
  Normalize(sum.limbs);
}

double ToDouble(const FixedPointSum& sum) {
  if (sum.not_representable != 0) return std::nan("");
  std::array<int64_t, 4> limbs = sum.limbs;
  Normalize(limbs);
  const bool negative = limbs[3] < 0;
  if (negative) {
    for (int64_t& limb : limbs) limb = -limb;
    Normalize(limbs);
  }
  // The leading 64 bits of five 32-bit digits, the rest gathered in the lowest bit, so that the one
  // conversion to double rounds correctly.
  const std::array<uint32_t, 5> digits = {
      static_cast<uint32_t>(limbs[0]), static_cast<uint32_t>(limbs[1]),
      static_cast<uint32_t>(limbs[2]), static_cast<uint32_t>(limbs[3]),
      static_cast<uint32_t>(static_cast<uint64_t>(limbs[3]) >> 32)};
  int top = 4;
  while (top > 0 && digits[static_cast<size_t>(top)] == 0) --top;
  uint64_t leading = 0;
  int exponent = -64;
  bool rest = false;
  for (int bit = 32 * top + 31; bit >= 0; --bit) {
    const bool set = (digits[static_cast<size_t>(bit / 32)] >> (bit % 32)) & 1u;
    if (leading >> 63) {
      rest = rest || set;
      ++exponent;
    } else {
      leading = (leading << 1) | static_cast<uint64_t>(set);
    }
  }
  const double magnitude = std::ldexp(static_cast<double>(leading | uint64_t{rest}), exponent);
  return negative ? -magnitude : magnitude;
}

void Validate(const OrderedSumArgs& args) {
  const NamedView out{"ordered_sum.out", args.out};
  CHECK(args.out, "ordered_sum.out is absent");
  CHECK(!args.inputs.empty(), "ordered_sum has no inputs (out has shape {})", args.out.shape());
  CheckShape(out, args.out.shape());
  CheckStorage(out);
  for (const TensorView& input : args.inputs) {
    const NamedView named{"ordered_sum.input", input};
    CheckShape(named, args.out.shape());
    CheckStorage(named);
    CheckSameOrDisjoint(out, named);
  }
  CHECK(std::isfinite(args.scale), "ordered_sum.scale is {}", args.scale);
}

void Validate(const ColumnSumArgs& args) {
  const NamedView input{"column_sum.input", args.input};
  const NamedView out{"column_sum.out", args.out};
  const NamedView workspace{"column_sum.workspace", args.workspace};
  CheckRank(input, 2);
  CheckStorage(input);
  CheckShape(out, {args.input.shape()[1]});
  CheckStorage(out);
  CheckWorkspace(workspace, ColumnSumWorkspaceBytes(args.input.shape()[0], args.input.shape()[1]));
  CheckDisjoint(out, {input, workspace});
  CheckDisjoint(workspace, {input});
}

void Validate(const FixedPointSumArgs& args) {
  const NamedView input{"fixed_point_sum.input", args.input};
  CheckRank(input, 1);
  CheckStorage(input);
  CheckTensor({"fixed_point_sum.sum", args.sum}, {kFixedPointWords}, DType::kI64);
  CheckDisjoint({"fixed_point_sum.sum", args.sum}, {input});
}

void Validate(const ClipArgs& args) {
  const NamedView sum{"clip.sum", args.sum};
  const NamedView losses{"clip.losses", args.losses};
  const NamedView norm{"clip.norm", args.norm};
  const NamedView control{"clip.control", args.control};
  CheckTensor(sum, {kFixedPointWords}, DType::kI64);
  if (args.losses) CheckTensor(losses, {kFixedPointWords}, DType::kI64);
  CheckTensor(norm, {1}, DType::kF32);
  CheckTensor(control, {2}, DType::kI32);
  CHECK(args.max_norm >= 0 && std::isfinite(args.max_norm), "clip.max_norm is {}", args.max_norm);
  CheckDisjoint(norm, {sum, losses, control});
  CheckDisjoint(control, {sum, losses});
}

}  // namespace hearth
