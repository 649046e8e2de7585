// What a run asks of the device it is on.
#pragma once

#include <optional>

#include "kernels/api/kernel_backend.h"
#include "kernels/core/gpu_info.h"
#include "runtime/config/resolved_config.h"

namespace hearth {

// Refuses compute_dtype fp8 on a GPU without FP8 tensor cores. `gpu`: Device::gpu(); nothing where
// it is none. ConfigError.
void RequireFp8(const ResolvedConfig& resolved, const std::optional<GpuInfo>& gpu);

// Refuses attention_provider cudnn on a backend that has none. ConfigError.
void RequireAttention(const ResolvedConfig& resolved, KernelBackend& backend);

}  // namespace hearth
