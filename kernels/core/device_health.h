// What a device tells about its own condition.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hearth {

// A field that the device does not tell is absent.
struct DeviceHealth {
  std::optional<int64_t> clock_mhz;         // of the arithmetic units, now
  std::optional<int64_t> memory_clock_mhz;  // now
  std::optional<double> power_w;
  std::optional<int64_t> temperature_c;
  // Why the clock is below what was asked for, "power cap, heat"; empty: it is not.
  std::optional<std::string> throttling;
  std::optional<int64_t> memory_bytes;       // of the whole device
  std::optional<int64_t> used_memory_bytes;  // by all processes
};

}  // namespace hearth
