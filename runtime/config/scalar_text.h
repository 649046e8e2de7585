// Numbers and sizes in configuration files: our own strict grammar, and texts that read back
// exactly.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// Either a value, or what is wrong with the text ("'010' has a leading zero"), the remedy left to
// the caller.
template <typename T>
struct Parsed {
  std::optional<T> value;
  std::string problem;
};

// The largest magnitude an integer of a configuration may have: 2^40.
inline constexpr int64_t kMaxConfigInteger = int64_t{1} << 40;

// -?(0|[1-9][0-9]*), at most 2^40 in magnitude.
Parsed<int64_t> ParseInteger(std::string_view text);

// -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?, finite, not rounded to zero.
Parsed<double> ParseNumber(std::string_view text);

// A number of bytes: a non-negative number directly followed by B, KiB, MiB, GiB, TiB, KB, MB, GB
// or TB; a fraction of a byte is dropped. At most 2^50 bytes.
Parsed<int64_t> ParseSize(std::string_view text);

// The shortest text that ParseNumber reads back to the same bits.
std::string NumberText(double value);

// "512MiB" where a binary unit divides it, else bytes ("1000B").
std::string SizeText(int64_t bytes);

}  // namespace hearth
