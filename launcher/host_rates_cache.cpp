#include "launcher/host_rates_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "launcher/device_choice.h"
#include "launcher/link_cache.h"
#include "launcher/single_rank.h"
#include "runtime/bench/host_adamw_bench.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

// Several times what a server's caches hold.
constexpr int64_t kElements = int64_t{32} << 20;
constexpr int kRepetitions = 3;

}  // namespace

std::filesystem::path HostRatesFile() { return CacheFile("host"); }

HostRates ThisHost() {
  const LinkMachine machine = ThisMachine({}, false);
  return {.host = machine.host, .processor = OneLine(ProcessorName()), .program = machine.program};
}

CachedRates ReadHostRates(const std::filesystem::path& file, const HostRates& here) {
  CachedRates cached;
  cached.why_not = WhyNotCached(file, [&](const std::string& text) {
    HostRates rates = ParseHostRates(text, file.string());
    const std::string stale = WhyStale(rates, here);
    if (stale.empty()) cached.rates = std::move(rates);
    return stale;
  });
  return cached;
}

std::optional<HostRates> CachedHostRates() {
  return ReadHostRates(HostRatesFile(), ThisHost()).rates;
}

HostRates MeasureHost() {
  const auto backend = MakeBackend("cpu", {.threads = 1});
  const int threads = DefaultThreads();
  const HostAdamwBenchResult result = BenchHostAdamw(
      backend->device(), {.threads = threads, .elements = kElements, .repetitions = kRepetitions});
  HostRates rates = ThisHost();
  rates.threads = threads;
  rates.adamw_gbps = result.Of(DType::kF32).gb_per_s;
  rates.adamw_stochastic_gbps = result.Of(DType::kBF16).gb_per_s;
  rates.memory_gbps = std::max({result.triad_gb_per_s, result.in_place_gb_per_s, rates.adamw_gbps,
                                rates.adamw_stochastic_gbps});
  return rates;
}

void WriteHostRates(const std::filesystem::path& file, const HostRates& rates) {
  WriteCacheFile(file, HostRatesText(rates));
}

void MeasureHostFor(DeviceKind device) {
  if (!UsesGpus(device)) return;
  try {
    const std::filesystem::path file = HostRatesFile();
    if (file.empty() || ReadHostRates(file, ThisHost()).rates) return;
    fmt::print(stderr, "hearth: measuring this host's memory (once; hearth probe does it again)\n");
    WriteHostRates(file, MeasureHost());
  } catch (const std::exception& error) {
    LogWarning(fmt::format("this host's memory was not measured: {}", error.what()));
  }
}

}  // namespace hearth
