// Quantities as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace hearth {

// "512 B", "3.4 KiB", "15.6 GiB": three digits or so.
std::string FormatBytes(int64_t bytes);

// "843", "12.3k", "4.56M": at least three digits.
std::string FormatCount(double count);

// "8s", "3m20s", "5h02m", "3d04h".
std::string FormatDuration(double seconds);

}  // namespace hearth
