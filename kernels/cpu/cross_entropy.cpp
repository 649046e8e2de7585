#include "kernels/api/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/api/quantize.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/quantize_rows.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/thread_scratch.h"
#include "kernels/cpu/vector_math.h"

namespace hearth {

namespace {

// The loss of one row; `values` are its logits on entry and its gradient, where one is wanted
// (gradient_scale is not null), on return.
float Row(float* values, int64_t vocab, int32_t target, float z_loss, const float* gradient_scale) {
  const double target_logit = static_cast<double>(values[target]);
  const float largest = MaxOf(values, vocab);
  const double sum = ExpAndSum(values, vocab, largest);
  const double log_sum_exp = static_cast<double>(largest) + std::log(sum);
  const double z = static_cast<double>(z_loss);
  if (gradient_scale != nullptr) {
    const double scale = static_cast<double>(*gradient_scale);
    const double slope = (1.0 + 2.0 * z * log_sum_exp) * scale / sum;
    const double at_target = static_cast<double>(values[target]) * slope - scale;
    const float factor = static_cast<float>(slope);
    for (int64_t i = 0; i < vocab; ++i) values[i] *= factor;
    values[target] = static_cast<float>(at_target);
  }
  return static_cast<float>(log_sum_exp - target_logit + z * log_sum_exp * log_sum_exp);
}

template <typename T>
void Rows(const CrossEntropyArgs& args, int64_t begin, int64_t end) {
  const int64_t stored = args.logits.shape()[1];
  const int32_t* targets = args.targets.as<int32_t>();
  const bool quantizes = static_cast<bool>(args.d_logits_scale);
  const float fixed_scale = LogitGradientScale(args.z_loss);
  const float* gradient_scale = quantizes             ? &fixed_scale
                                : args.gradient_scale ? args.gradient_scale.as<float>()
                                                      : nullptr;
  float* values = ThreadScratch(ScratchUse::kTask, stored);
  for (int64_t row = begin; row < end; ++row) {
    const int32_t target = targets[row];
    float loss = 0;
    if (target >= 0) {
      CHECK(target < args.vocab, "cross entropy: target {} of row {} in a vocabulary of {}", target,
            row, args.vocab);
      LoadRow(args.logits.as<T>() + row * stored, args.vocab, values);
      loss = Row(values, args.vocab, target, args.z_loss, gradient_scale);
    }
    args.losses.as<float>()[row] = loss;
    if (gradient_scale == nullptr) continue;
    std::fill(values + (target < 0 ? 0 : args.vocab), values + stored, 0.0f);
    if (quantizes) {
      QuantizeValues(values, stored, 1.0f, DType::kF8E5M2,
                     static_cast<uint8_t*>(args.d_logits.data()) + row * stored);
    } else {
      StoreRow(values, stored, args.d_logits.as<T>() + row * stored);
    }
  }
}

void WriteRecord(const CrossEntropyArgs& args) {
  if (!args.d_logits_scale) return;
  const float gradient_scale = *args.gradient_scale.as<float>();
  const float scale = LogitGradientScale(args.z_loss);
  *static_cast<ScaleRecord*>(args.d_logits_scale.data()) = {.inverse = gradient_scale / scale,
                                                            .scale = scale / gradient_scale};
}

}  // namespace

void CpuBackend::DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  Enqueue(stream, [this, args] {
    WriteRecord(args);
    const int64_t rows = args.logits.shape()[0];
    const int64_t piece = PieceOfRows(args.logits.shape()[1]);
    ForEachPiece(device_.pool(), rows, piece, [&](int64_t begin, int64_t end) {
      WithStorage(args.logits.dtype(), [&](auto type) { Rows<decltype(type)>(args, begin, end); });
    });
  });
}

}  // namespace hearth
