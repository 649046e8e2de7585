#include "runtime/config/scalar_text.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <system_error>

#include "runtime/config/suggestion.h"

namespace hearth {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

size_t CountDigits(std::string_view text) {
  size_t count = 0;
  while (count < text.size() && IsDigit(text[count])) ++count;
  return count;
}

// What is wrong with the front of a number, before its digits are even looked at; "" for nothing.
std::string FrontProblem(std::string_view text) {
  if (text.empty()) return "is empty";
  if (text.front() == '+') return fmt::format("'{}' has a sign +", Printable(text));
  if (text.find('_') != std::string_view::npos && IsDigit(text.front())) {
    return fmt::format("'{}' has an underscore", Printable(text));
  }
  const std::string_view digits = text.front() == '-' ? text.substr(1) : text;
  if (digits.size() >= 2 && digits[0] == '0') {
    const char second = digits[1];
    if (second == 'x' || second == 'X' || second == 'o' || second == 'O' || second == 'b' ||
        second == 'B') {
      return fmt::format("'{}' has a base prefix", Printable(text));
    }
    if (IsDigit(second)) {
      return fmt::format("'{}' has a leading zero", Printable(text));
    }
  }
  return "";
}

// The length of the prefix of `text` that has the form of a number, 0 when there is none.
size_t NumberLength(std::string_view text) {
  size_t at = !text.empty() && text[0] == '-' ? 1 : 0;
  const size_t whole = CountDigits(text.substr(at));
  if (whole == 0) return 0;
  at += whole;
  if (at < text.size() && text[at] == '.') {
    const size_t fraction = CountDigits(text.substr(at + 1));
    if (fraction == 0) return 0;
    at += 1 + fraction;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    const size_t sign =
        at + 1 < text.size() && (text[at + 1] == '+' || text[at + 1] == '-') ? 1 : 0;
    const size_t exponent = CountDigits(text.substr(at + 1 + sign));
    if (exponent == 0) return 0;
    at += 1 + sign + exponent;
  }
  return at;
}

struct Unit {
  std::string_view name;
  int64_t bytes;
};

constexpr std::array<Unit, 9> kUnits = {{{"B", 1},
                                         {"KiB", int64_t{1} << 10},
                                         {"MiB", int64_t{1} << 20},
                                         {"GiB", int64_t{1} << 30},
                                         {"TiB", int64_t{1} << 40},
                                         {"KB", 1'000},
                                         {"MB", 1'000'000},
                                         {"GB", 1'000'000'000},
                                         {"TB", 1'000'000'000'000}}};

constexpr int64_t kMaxSizeBytes = int64_t{1} << 50;

}  // namespace

Parsed<int64_t> ParseInteger(std::string_view text) {
  if (std::string problem = FrontProblem(text); !problem.empty()) return {{}, std::move(problem)};
  const size_t sign = text[0] == '-' ? 1 : 0;
  const size_t digits = CountDigits(text.substr(sign));
  if (digits == 0 || sign + digits != text.size()) {
    if (NumberLength(text) == text.size()) {
      return {{}, fmt::format("'{}' has a fraction or an exponent", Printable(text))};
    }
    return {{}, fmt::format("'{}' is not an integer", Printable(text))};
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value > kMaxConfigInteger || value < -kMaxConfigInteger) {
    return {{}, fmt::format("'{}' is beyond 2^40", Printable(text))};
  }
  return {value, ""};
}

Parsed<double> ParseNumber(std::string_view text) {
  if (std::string problem = FrontProblem(text); !problem.empty()) return {{}, std::move(problem)};
  if (NumberLength(text) != text.size()) {
    return {{}, fmt::format("'{}' is not a decimal number", Printable(text))};
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value)) {
    return {{}, fmt::format("'{}' is too large or too small for a number", Printable(text))};
  }
  return {value == 0 ? 0.0 : value, ""};  // no negative zero
}

Parsed<int64_t> ParseSize(std::string_view text) {
  if (std::string problem = FrontProblem(text); !problem.empty()) return {{}, std::move(problem)};
  // "1e3B" would be a number; a unit never starts with e.
  const size_t length = NumberLength(text);
  for (const Unit& unit : kUnits) {
    if (length == 0 || text.substr(length) != unit.name) continue;
    const Parsed<double> number = ParseNumber(text.substr(0, length));
    if (!number.value) return {{}, number.problem};
    const double bytes = *number.value * static_cast<double>(unit.bytes);
    if (!(bytes >= 0 && bytes <= static_cast<double>(kMaxSizeBytes))) {
      return {{}, fmt::format("'{}' is not between 0 and 2^50 bytes", Printable(text))};
    }
    return {static_cast<int64_t>(bytes), ""};
  }
  return {{}, fmt::format("'{}' is not a size such as 15.6GiB", Printable(text))};
}

std::string NumberText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

std::string SizeText(int64_t bytes) {
  for (size_t unit = 4; unit > 0; --unit) {
    if (bytes > 0 && bytes % kUnits[unit].bytes == 0) {
      return fmt::format("{}{}", bytes / kUnits[unit].bytes, kUnits[unit].name);
    }
  }
  return fmt::format("{}B", bytes);
}

}  // namespace hearth
