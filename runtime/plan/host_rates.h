// What the memory of this host gives, as `hearth probe` measures it: data, its text, and the
// profile of a rank here. A card's file cannot know the host it will be in. Pure.
#pragma once

#include <string>
#include <string_view>

#include "runtime/plan/hardware_profile.h"

namespace hearth {

// In 10^9 bytes a second, read and written by all processors together.
struct HostRates {
  std::string host;       // where they were measured
  std::string processor;  // its name
  std::string program;    // the version of Hearth
  int threads = 1;        // that shared the work
  double memory_gbps = 0;
  double adamw_gbps = 0;             // host optimizer
  double adamw_stochastic_gbps = 0;  // with bf16 master weights
  bool operator==(const HostRates&) const = default;
};

// IoError, "FILE:LINE:COLUMN: error: ..." in one line, for what HostRatesText has not written.
HostRates ParseHostRates(std::string_view text, const std::string& file);
// JSON, which a YAML reader takes too.
std::string HostRatesText(const HostRates& rates);
// For people, without a line's end.
std::string Describe(const HostRates& rates);

// Why rates of `there` say nothing of `here`, whose figures do not matter; "" when they do.
std::string WhyStale(const HostRates& there, const HostRates& here);

// The profile of one of `ranks` that share the host. A CPU's stays as it is: its file's figures are
// of its cores.
HardwareProfile WithHost(HardwareProfile profile, const HostRates& rates, int ranks);

}  // namespace hearth
