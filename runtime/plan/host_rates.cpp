#include "runtime/plan/host_rates.h"

#include <fmt/format.h>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"
#include "runtime/plan/link_table.h"

namespace hearth {

namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMostThreads = 1 << 16;
constexpr double kLeastRate = 1e-3, kMostRate = 1e6;

double Rate(const JsonNode& node) {
  const double value = node.AsReal();
  if (!(value >= kLeastRate && value <= kMostRate)) {
    node.Fail("is no rate of a host's memory; run hearth probe again");
  }
  return value;
}

}  // namespace

HostRates ParseHostRates(std::string_view text, const std::string& file) {
  const JsonDocument document =
      JsonDocument::Parse(text, file, {.max_values = 100}, JsonRefusal::kIoError);
  const JsonNode root = document.root();
  root.RequireObject();
  if (root.Get("host_version").AsInteger(0, INT64_MAX) != kVersion) {
    root.Get("host_version").Fail("is of another version of Hearth; run hearth probe again");
  }
  return {.host = root.Get("host").AsString(),
          .processor = root.Get("processor").AsString(),
          .program = root.Get("program").AsString(),
          .threads = static_cast<int>(root.Get("threads").AsInteger(1, kMostThreads)),
          .memory_gbps = Rate(root.Get("memory_gbps")),
          .adamw_gbps = Rate(root.Get("adamw_gbps")),
          .adamw_stochastic_gbps = Rate(root.Get("adamw_stochastic_gbps"))};
}

std::string HostRatesText(const HostRates& rates) {
  return fmt::format(
      "{{\n  \"host_version\": {},\n  \"host\": {},\n  \"processor\": {},\n  \"program\": {},\n"
      "  \"threads\": {},\n  \"memory_gbps\": {},\n  \"adamw_gbps\": {},\n"
      "  \"adamw_stochastic_gbps\": {}\n}}\n",
      kVersion, QuotedName(rates.host), QuotedName(rates.processor), QuotedName(rates.program),
      rates.threads, rates.memory_gbps, rates.adamw_gbps, rates.adamw_stochastic_gbps);
}

std::string Describe(const HostRates& rates) {
  return fmt::format(
      "host memory {:.1f} GB/s by {} threads; the optimizer on it {:.1f} GB/s, with bf16 master "
      "weights {:.1f} GB/s",
      rates.memory_gbps, rates.threads, rates.adamw_gbps, rates.adamw_stochastic_gbps);
}

std::string WhyStale(const HostRates& there, const HostRates& here) {
  const auto differs = [](std::string_view what, const std::string& was, const std::string& is) {
    return fmt::format("measured {} '{}', this is '{}'", what, OneLine(was), OneLine(is));
  };
  if (there.host != here.host) return differs("on host", there.host, here.host);
  if (there.processor != here.processor) {
    return differs("with processor", there.processor, here.processor);
  }
  if (there.program != here.program) return differs("by Hearth", there.program, here.program);
  return "";
}

HardwareProfile WithHost(HardwareProfile profile, const HostRates& rates, int ranks) {
  CHECK(ranks >= 1, "{} ranks on a host", ranks);
  if (!profile.is_gpu) return profile;
  profile.memory_gbps = rates.memory_gbps / ranks;
  profile.adamw_gbps = rates.adamw_gbps / ranks;
  profile.adamw_stochastic_gbps = rates.adamw_stochastic_gbps / ranks;
  return profile;
}

}  // namespace hearth
