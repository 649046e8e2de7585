// CHECK(condition, "what, {} {}", a, b): an invariant, reported with its values.
#pragma once

#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/core/error.h"

namespace hearth {

namespace internal {

inline void FormatInto(std::ostringstream& out, std::string_view format) { out << format; }

template <typename First, typename... Rest>
void FormatInto(std::ostringstream& out, std::string_view format, const First& first,
                const Rest&... rest) {
  const size_t hole = format.find("{}");
  if (hole == std::string_view::npos) {
    out << format;
    return;
  }
  out << format.substr(0, hole) << first;
  FormatInto(out, format.substr(hole + 2), rest...);
}

}  // namespace internal

// Replaces each {} of `format` by the next argument, printed as by operator<<. Only for messages of
// the device layer, which depends on nothing but the standard library; above it use fmt.
template <typename... Args>
std::string Format(std::string_view format, const Args&... args) {
  std::ostringstream out;
  internal::FormatInto(out, format, args...);
  return out.str();
}

[[noreturn]] void FailCheck(const char* file, int line, const char* condition,
                            const std::string& message);

#define CHECK(condition, ...)                                                             \
  do {                                                                                    \
    if (!(condition)) [[unlikely]]                                                        \
      ::hearth::FailCheck(__FILE__, __LINE__, #condition, ::hearth::Format(__VA_ARGS__)); \
  } while (false)

// Converts between integer types; fails where the value does not survive.
template <typename To, typename From>
constexpr To Narrow(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To result = static_cast<To>(value);
  CHECK(static_cast<From>(result) == value && ((result < To{}) == (value < From{})),
        "{} does not fit its type", value);
  return result;
}

// a / b where b must divide a.
constexpr int64_t DivExact(int64_t a, int64_t b) {
  CHECK(b != 0 && a % b == 0, "{} is not a multiple of {}", a, b);
  return a / b;
}

constexpr int64_t DivUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t multiple) { return DivUp(a, multiple) * multiple; }

}  // namespace hearth
