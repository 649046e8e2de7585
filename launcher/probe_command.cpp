#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/program_options/value_semantic.hpp>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "launcher/command.h"
#include "launcher/device_choice.h"
#include "launcher/exchange_ways.h"
#include "launcher/host_rates_cache.h"
#include "launcher/link_cache.h"
#include "launcher/link_probe.h"
#include "launcher/supervisor.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

constexpr int kRanksOnTheCpu = 2;
constexpr double kMostSeconds = 3600;

void AddOptions(po::options_description* options) {
  options->add_options()("out", po::value<std::string>()->value_name("F"),
                         "also write the table there")(",n", po::value<int64_t>()->value_name("N"),
                                                       "ranks; default: one per GPU, 2 on the CPU")(
      "device", po::value<std::string>()->default_value("auto"), "auto, cuda or cpu")(
      "quick", po::bool_switch(), "all ranks together only, not each pair and direction")(
      "timeout", po::value<double>()->default_value(60)->value_name("S"),
      "seconds until a child process that says nothing is given up")(
      "as-rank", po::bool_switch(), "one rank of a trial; probe starts itself so")(
      "places", po::value<std::string>()->default_value(""), "with --as-rank: whose places")(
      "stage", po::value<std::vector<std::string>>()->composing(), "with --as-rank: what to try");
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

std::vector<int> ReadPlaces(const std::string& text) {
  std::vector<int> places;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int place = -1;
    const auto [next, error] = std::from_chars(at, end, place);
    if (error != std::errc() || place < 0) FailUsage("--places is a list of numbers");
    places.push_back(place);
    at = next < end && *next == ',' ? next + 1 : next;
    if (next < end && *next != ',') FailUsage("--places is a list of numbers");
  }
  return places;
}

int AsRank(const Invocation& invocation, DeviceKind device) {
  LinkRankOptions options{.job = {.places = ReadPlaces(invocation.Get<std::string>("places"))},
                          .device = device};
  if (invocation.Has("stage")) {
    options.job.stages = invocation.Get<std::vector<std::string>>("stage");
  }
  return RunLinkRank(options);
}

int RanksOf(const Invocation& invocation, DeviceKind device) {
  if (!invocation.Has("-n")) {
    return UsesGpus(device) ? std::max(2, DefaultRanksPerHost(device)) : kRanksOnTheCpu;
  }
  const int64_t ranks = invocation.Get<int64_t>("-n");
  if (ranks < 2 || ranks > kMostLinkedRanks) {
    FailUsage(fmt::format("{} ranks; give 2 to {}, since links are between them", ranks,
                          kMostLinkedRanks));
  }
  return static_cast<int>(ranks);
}

// Into the cache; `without` is what a failure costs.
void Keep(const std::filesystem::path& file, const char* without,
          const std::function<void(const std::filesystem::path&)>& write) {
  try {
    if (file.empty()) throw IoError("the environment names no home");
    write(file);
    fmt::print("kept in {}\n", file.string());
  } catch (const IoError& error) {
    LogWarning(fmt::format("{}: {}", without, error.what()));
  }
}

int Run(const Invocation& invocation) {
  const DeviceKind device = ReadDeviceKind(invocation.Get<std::string>("device"));
  if (invocation.Get<bool>("as-rank")) return AsRank(invocation, device);
  const double seconds = invocation.Get<double>("timeout");
  if (!(seconds > 0 && seconds <= kMostSeconds)) {
    FailUsage(fmt::format("--timeout is a number of seconds up to {}", kMostSeconds));
  }
  const bool gpus = UsesGpus(device);
  const LinkTable table = ProbeThisHost(
      {.device = device,
       .ranks = RanksOf(invocation, device),
       .pairs = !invocation.Get<bool>("quick"),
       .silence = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)),
       .progress = [](const std::string& line) { fmt::print(stderr, "probe: {}\n", line); }});
  fmt::print("{}", LinkTableForPeople(table, ChooseWays(table, AllowedWays(gpus))));
  Keep(LinkCacheFile(gpus, table.ranks()), "runs will not know this table",
       [&](const std::filesystem::path& file) { WriteLinks(file, table); });
  fmt::print(stderr, "probe: this host's memory\n");
  const HostRates rates = MeasureHost();
  fmt::print("\n{}\n", Describe(rates));
  Keep(HostRatesFile(), "the planner takes the figures of a common host",
       [&](const std::filesystem::path& file) { WriteHostRates(file, rates); });
  if (invocation.Has("out")) WriteLinks(invocation.Get<std::string>("out"), table);
  return kExitDone;
}

}  // namespace

Command MakeProbeCommand() {
  return {.name = "probe",
          .file = "",
          .summary = "measure how ranks here can exchange and what memory gives, and keep it",
          .details =
              "Every pair of ranks in each direction, then all together, by every way there is:\n"
              "first whether the data comes whole, then how fast. In child processes: one that\n"
              "hangs or crashes costs that way, not the probe. comm.backend: auto and doctor read\n"
              "the table, until the GPUs, their driver or Hearth change. Last, what the host's\n"
              "memory gives the optimizer, by which the planner chooses for GPUs here.",
          .takes_run_keys = false,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
