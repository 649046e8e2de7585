// The device layer's way to report what must not throw (destructors, stream threads).
#pragma once

#include <string_view>

namespace hearth {

// One line to standard error, prefixed "hearth: warning: ". Never throws.
void LogWarning(std::string_view message) noexcept;

}  // namespace hearth
