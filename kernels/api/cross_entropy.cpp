#include "kernels/api/cross_entropy.h"

#include <cmath>

#include "kernels/api/checks.h"

namespace hearth {

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
    return;
  }
  CheckTensor({"cross_entropy.gradient_scale", args.gradient_scale}, {1}, DType::kF32);
  CheckTensor(d_logits, args.logits.shape(), args.logits.dtype());
  CheckSameOrDisjoint(d_logits, logits);
}

}  // namespace hearth
