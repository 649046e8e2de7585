// The one place that knows which backends are in this build.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/kernel_backend.h"

namespace hearth {

struct BackendOptions {
  int threads = 1;  // CPU: threads that share an op's work
};

// kind: one of AvailableBackends(). ConfigError otherwise.
std::unique_ptr<KernelBackend> MakeBackend(std::string_view kind, const BackendOptions& options);

std::vector<std::string> AvailableBackends();

}  // namespace hearth
