#include "kernels/api/cross_entropy.h"

#include <cmath>

#include "kernels/api/checks.h"
#include "kernels/core/float8.h"

namespace hearth {

namespace {

constexpr double kLargestLogSumExp = 4096.0;
constexpr uintptr_t kScaleAlignment = 16;

void CheckGradient(const CrossEntropyArgs& args) {
  const NamedView logits{"cross_entropy.logits", args.logits};
  const NamedView d_logits{"cross_entropy.d_logits", args.d_logits};
  const NamedView scale{"cross_entropy.d_logits_scale", args.d_logits_scale};
  CheckShape(d_logits, args.logits.shape());
  if (!IsFloat8(args.d_logits.dtype())) {
    CheckType(d_logits, args.logits.dtype());
    CheckSameOrDisjoint(d_logits, logits);
    CheckAbsent(scale, "but only an f8 gradient has a scale");
    return;
  }
  CheckType(d_logits, DType::kF8E5M2);
  CheckDisjoint(d_logits, {logits});
  CheckTensor(scale, {4}, DType::kF32);
  CHECK(reinterpret_cast<uintptr_t>(args.d_logits_scale.data()) % kScaleAlignment == 0,
        "{} at {} is not aligned to {}", scale.name, args.d_logits_scale.data(), kScaleAlignment);
  CheckDisjoint(scale, {logits, d_logits, {"cross_entropy.gradient_scale", args.gradient_scale}});
}

}  // namespace

float LogitGradientScale(float z_loss) {
  const double bound = 1.0 + 2.0 * static_cast<double>(z_loss) * kLargestLogSumExp;
  double scale = 0x1p15;
  while (scale * bound > static_cast<double>(kE5M2Max)) scale /= 2;
  return static_cast<float>(scale);
}

void Validate(const CrossEntropyArgs& args) {
  const NamedView logits{"cross_entropy.logits", args.logits};
  const NamedView losses{"cross_entropy.losses", args.losses};
  const NamedView d_logits{"cross_entropy.d_logits", args.d_logits};
  CheckRank(logits, 2);
  CheckStorage(logits);
  const Shape rows{args.logits.shape()[0]};
  CHECK(args.vocab >= 1 && args.vocab <= args.logits.shape()[1],
        "cross_entropy: a vocabulary of {} in logits {}", args.vocab, args.logits.shape());
  CHECK(std::isfinite(args.z_loss) && args.z_loss >= 0, "cross_entropy: z_loss is {}", args.z_loss);
  CheckTensor({"cross_entropy.targets", args.targets}, rows, DType::kI32);
  CheckTensor(losses, rows, DType::kF32);
  CheckDisjoint(losses, {logits, {"cross_entropy.targets", args.targets}, d_logits});
  if (!args.gradient_scale) {
    CheckAbsent(d_logits, "without gradient_scale");
    CheckAbsent({"cross_entropy.d_logits_scale", args.d_logits_scale}, "without gradient_scale");
    return;
  }
  CheckTensor({"cross_entropy.gradient_scale", args.gradient_scale}, {1}, DType::kF32);
  CheckGradient(args);
}

}  // namespace hearth
