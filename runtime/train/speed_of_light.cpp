#include "runtime/train/speed_of_light.h"

namespace hearth {

namespace {

constexpr double kTera = 1e12;

}  // namespace

std::optional<Efficiency> EfficiencyOf(const ModelConfig& config, const Precision& precision,
                                       int64_t sequence_len, const DevicePeaks& peaks,
                                       double tokens_per_second_per_device) {
  if (precision.storage != DType::kBF16) return std::nullopt;
  const double bf16_rate = peaks.bf16_tflops * kTera;
  const double block_rate = precision.fp8 ? peaks.fp8_tflops * kTera : bf16_rate;
  const double head_rate = precision.fp8_head ? block_rate : bf16_rate;
  if (!(bf16_rate > 0) || !(block_rate > 0)) return std::nullopt;
  const TrainingFlops flops = FlopsPerToken(config, sequence_len);
  const double best_seconds_per_token =
      flops.blocks / block_rate + flops.head / head_rate + flops.attention / bf16_rate;
  return Efficiency{.sol = best_seconds_per_token * tokens_per_second_per_device,
                    .mfu = flops.total() / block_rate * tokens_per_second_per_device};
}

}  // namespace hearth
