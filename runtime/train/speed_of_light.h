// How close a run comes to what its device could do at best.
#pragma once

#include <optional>

#include "runtime/model/activation_table.h"
#include "runtime/model/model_spec.h"
#include "runtime/telemetry/device_peaks.h"

namespace hearth {

// Fractions. Operations are FlopsPerToken's: recomputing does not count.
struct Efficiency {
  double sol = 0;  // speed of light: time at peak, block matmuls in their type, head and attention
                   // in bf16, by the time taken
  double mfu = 0;  // all operations, by the time taken and the peak of the block matmuls' type
};

// Nothing where the device has no known peak in that precision, fp32 included.
std::optional<Efficiency> EfficiencyOf(const ModelConfig& config, const Precision& precision,
                                       int64_t sequence_len, const DevicePeaks& peaks,
                                       double tokens_per_second_per_device);

}  // namespace hearth
