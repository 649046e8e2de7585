#include "kernels/core/log.h"

#include <cstdio>

namespace hearth {

void LogWarning(std::string_view message) noexcept {
  std::fprintf(stderr, "hearth: warning: %.*s\n", static_cast<int>(message.size()), message.data());
}

}  // namespace hearth
