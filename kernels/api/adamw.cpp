#include "kernels/api/adamw.h"

#include <cmath>

#include "kernels/api/checks.h"

namespace hearth {

namespace {

void CheckHyper(const AdamwHyper& hyper) {
  CHECK(hyper.beta1 >= 0 && hyper.beta1 < 1, "adamw.beta1 is {}", hyper.beta1);
  CHECK(hyper.beta2 >= 0 && hyper.beta2 < 1, "adamw.beta2 is {}", hyper.beta2);
  CHECK(hyper.epsilon > 0 && std::isfinite(hyper.epsilon), "adamw.epsilon is {}", hyper.epsilon);
  CHECK(std::isfinite(hyper.learning_rate), "adamw.learning_rate is {}", hyper.learning_rate);
  CHECK(std::isfinite(hyper.weight_decay), "adamw.weight_decay is {}", hyper.weight_decay);
  CHECK(hyper.inverse_bias1 >= 1 && std::isfinite(hyper.inverse_bias1), "adamw.inverse_bias1 is {}",
        hyper.inverse_bias1);
  CHECK(hyper.inverse_sqrt_bias2 >= 1 && std::isfinite(hyper.inverse_sqrt_bias2),
        "adamw.inverse_sqrt_bias2 is {}", hyper.inverse_sqrt_bias2);
  CHECK(hyper.step >= 1, "adamw.step is {}", hyper.step);
}

void CheckSegments(const std::vector<AdamwSegment>& segments, int64_t elements) {
  int64_t end = 0;
  for (const AdamwSegment& segment : segments) {
    CHECK(segment.count >= 0 && segment.begin >= end && segment.begin <= elements &&
              segment.count <= elements - segment.begin,
          "adamw segment of {} elements at {} of {}, the one before ends at {}", segment.count,
          segment.begin, elements, end);
    CHECK(segment.first_element >= 0, "adamw segment starts at element {} of its parameter",
          segment.first_element);
    CHECK(segment.tensor_id < (1u << 16), "adamw tensor_id {} is not below 2^16",
          segment.tensor_id);
    end = segment.begin + segment.count;
  }
}

}  // namespace

AdamwHyper MakeAdamwHyper(float learning_rate, float beta1, float beta2, float epsilon,
                          float weight_decay, uint64_t seed, int64_t step) {
  CHECK(step >= 1, "adamw.step is {}", step);
  const auto exponent = static_cast<double>(step);
  const double bias1 = 1.0 - std::pow(static_cast<double>(beta1), exponent);
  const double bias2 = 1.0 - std::pow(static_cast<double>(beta2), exponent);
  return {.learning_rate = learning_rate,
          .beta1 = beta1,
          .beta2 = beta2,
          .epsilon = epsilon,
          .weight_decay = weight_decay,
          .inverse_bias1 = static_cast<float>(1.0 / bias1),
          .inverse_sqrt_bias2 = static_cast<float>(1.0 / std::sqrt(bias2)),
          .seed = seed,
          .step = Narrow<uint32_t>(step)};
}

void Validate(const AdamwArgs& args) {
  const NamedView master{"adamw.master", args.master};
  const NamedView m{"adamw.m", args.m};
  const NamedView v{"adamw.v", args.v};
  const NamedView gradient{"adamw.gradient", args.gradient};
  const NamedView control{"adamw.control", args.control};
  const NamedView weight{"adamw.weight", args.weight};
  CheckHyper(args.hyper);
  CheckRank(master, 1);
  const Shape& shape = args.master.shape();
  CheckStorage(master);
  for (const NamedView& tensor : {m, v, gradient}) {
    CheckShape(tensor, shape);
    CheckStorage(tensor);
  }
  if (args.weight) {
    CheckShape(weight, shape);
    CheckStorage(weight);
  }
  CheckTensor(control, {2}, DType::kI32);
  CheckSegments(args.segments, shape[0]);
  CheckDisjoint(master, {m, v, gradient, control, weight});
  CheckDisjoint(m, {v, gradient, control, weight});
  CheckDisjoint(v, {gradient, control, weight});
  CheckDisjoint(weight, {gradient, control});
}

void ValidateRoundMaster(const AdamwArgs& args) {
  const NamedView master{"adamw.master", args.master};
  const NamedView weight{"adamw.weight", args.weight};
  CheckRank(master, 1);
  CheckStorage(master);
  CheckShape(weight, args.master.shape());
  CheckStorage(weight);
  CheckSegments(args.segments, args.master.shape()[0]);
  CheckDisjoint(weight, {master});
}

}  // namespace hearth
