#include "launcher/run_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "launcher/device_choice.h"
#include "launcher/exchange_ways.h"
#include "launcher/link_cache.h"
#include "launcher/link_probe.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

// What rank 0 finds in the table and all ranks go by.
struct Choice {
  std::vector<WayRule> rules;      // empty: none was measured
  std::string peers_are_unusable;  // why; "": nothing is known against them
  std::string why_not;             // there is no table
};

Choice ChooseFrom(const CachedLinks& links, const RunCommunicatorOptions& options) {
  Choice choice{.why_not = links.why_not};
  if (!links.table) return choice;
  std::vector<std::string> allowed = AllowedWays(/*gpus=*/true);
  if (options.no_peer_access) std::erase(allowed, kPeersWay);
  choice.rules = ChooseWays(*links.table, allowed);
  for (const LinkProblem& problem : links.table->problems) {
    if (problem.way == kPeersWay) choice.peers_are_unusable = problem.problem;
  }
  return choice;
}

// A line each: why_not, peers_are_unusable, then the rules. All of them are single lines.
std::string Packed(const Choice& choice) {
  std::string text =
      fmt::format("{}\n{}\n", OneLine(choice.why_not), OneLine(choice.peers_are_unusable));
  for (const WayRule& rule : choice.rules) {
    text += fmt::format("{}\t{}\t{}\n", rule.operation, rule.up_to_bytes, rule.way);
  }
  return text;
}

Choice Unpacked(const std::string& text) {
  Choice choice;
  std::istringstream in(text);
  std::getline(in, choice.why_not);
  std::getline(in, choice.peers_are_unusable);
  for (std::string line; std::getline(in, line);) {
    std::istringstream parts(line);
    WayRule rule;
    std::string limit;
    std::getline(parts, rule.operation, '\t');
    std::getline(parts, limit, '\t');
    std::getline(parts, rule.way);
    rule.up_to_bytes = std::stoll(limit);
    choice.rules.push_back(rule);
  }
  return choice;
}

Choice ChooseTogether(Bootstrap& bootstrap, KernelBackend& backend,
                      const RunCommunicatorOptions& options) {
  std::vector<std::string> devices = GatherIdentities(bootstrap, backend);
  std::string packed;
  if (bootstrap.rank() == 0) {
    packed = Packed(ChooseFrom(
        ReadLinks(LinkCacheFile(true, bootstrap.world()), ThisMachine(std::move(devices), true)),
        options));
  }
  const Bytes bytes = bootstrap.Broadcast(ToBytes(packed), 0);
  return Unpacked(ToText(bytes));
}

MixedOperation OperationOf(const std::string& name) {
  if (name == "reduce-scatter") return MixedOperation::kReduceScatter;
  return name == "all-reduce" ? MixedOperation::kAllReduce : MixedOperation::kAllGather;
}

std::string DescribeChosen(const std::vector<WayRule>& rules) {
  return Describe(rules) + " (measured by hearth probe)";
}

// The ways that the rules name, each once, in order.
std::vector<std::string> WaysOf(const std::vector<WayRule>& rules) {
  std::vector<std::string> ways;
  for (const WayRule& rule : rules) {
    if (std::find(ways.begin(), ways.end(), rule.way) == ways.end()) ways.push_back(rule.way);
  }
  return ways;
}

std::unique_ptr<Communicator> MakeChosen(const std::vector<WayRule>& rules, Bootstrap& bootstrap,
                                         KernelBackend& backend,
                                         const CommunicatorOptions& options) {
  const std::vector<std::string> ways = WaysOf(rules);
  std::vector<std::unique_ptr<Communicator>> parts;
  for (const std::string& name : ways) {
    const ExchangeWay way = FindWay(name);
    CommunicatorOptions of_way = options;
    of_way.stage = way.through_host;
    parts.push_back(MakeCommunicator(way.kind, bootstrap, backend, of_way));
  }
  if (parts.size() == 1) return std::move(parts.front());
  std::vector<MixRule> mix;
  for (const WayRule& rule : rules) {
    const auto part = std::find(ways.begin(), ways.end(), rule.way) - ways.begin();
    mix.push_back({.operation = OperationOf(rule.operation),
                   .up_to_bytes = rule.up_to_bytes,
                   .part = static_cast<int>(part)});
  }
  return MakeMixedCommunicator(std::move(parts), std::move(mix));
}

// Only among the GPUs of one host is there something to choose.
bool HasChoice(CommBackend backend, int ranks, bool uses_gpus, bool one_host) {
  const bool asks = backend == CommBackend::kAuto || backend == CommBackend::kCopyEngine;
  return asks && ranks > 1 && uses_gpus && one_host;
}

}  // namespace

RunCommunicator MakeRunCommunicator(const RunConfig& config, Bootstrap& bootstrap,
                                    KernelBackend& backend, const RunCommunicatorOptions& options) {
  const CommBackend asked = config.comm.backend;
  CommunicatorOptions made{.collective_timeout = std::chrono::milliseconds(
                               static_cast<int64_t>(config.comm.collective_timeout_s * 1000)),
                           .deterministic = config.deterministic};
  std::string kind(asked == CommBackend::kAuto ? "mpi" : EnumName(asked));
  RunCommunicator result{.description = kind};
  if (HasChoice(asked, bootstrap.world(), backend.device().kind() == DeviceType::kCuda,
                bootstrap.local_world() == bootstrap.world())) {
    const Choice choice = ChooseTogether(bootstrap, backend, options);
    if (asked == CommBackend::kAuto && !choice.rules.empty()) {
      result.description = DescribeChosen(choice.rules);
      result.communicator = MakeChosen(choice.rules, bootstrap, backend, made);
      return result;
    }
    if (asked == CommBackend::kAuto && !choice.why_not.empty()) {
      result.warning = fmt::format(
          "comm.backend: auto goes by MPI, as nothing was measured ({}); run hearth probe",
          choice.why_not);
    }
    if (asked == CommBackend::kCopyEngine) {
      made.stage = options.no_peer_access || !choice.peers_are_unusable.empty();
      if (made.stage) result.description = kThroughHostWay;
      if (!choice.peers_are_unusable.empty()) {
        result.warning =
            fmt::format("the copy engines go through the host: {}", choice.peers_are_unusable);
      }
    }
  }
  result.communicator = MakeCommunicator(kind, bootstrap, backend, made);
  return result;
}

ExpectedExchange ExpectExchange(const RunConfig& config, int ranks, bool uses_gpus, bool one_host) {
  const CommBackend asked = config.comm.backend;
  ExpectedExchange expected{.description =
                                std::string(asked == CommBackend::kAuto ? "mpi" : EnumName(asked))};
  std::vector<std::string> ways;
  if (asked == CommBackend::kAuto && HasChoice(asked, ranks, uses_gpus, one_host)) {
    const CachedLinks links =
        ReadLinks(LinkCacheFile(true, ranks), ThisMachine(GpuIdentities(ranks), true));
    const std::vector<WayRule> rules = ChooseFrom(links, {}).rules;
    if (!rules.empty()) expected.description = DescribeChosen(rules);
    ways = WaysOf(rules);
  }
  if (ways.empty()) ways.push_back(expected.description);
  for (const std::string& name : ways) {
    const ExchangeWay way = FindWay(name);
    expected.memory += MemoryOf({.kind = way.kind,
                                 .world = ranks,
                                 .one_host = one_host,
                                 .stage = uses_gpus,
                                 .through_host = way.through_host});
  }
  return expected;
}

void MeasureLinksFor(const RunConfig& config, int ranks) {
  const bool gpus = UsesGpus(config.device);
  if (config.comm.backend != CommBackend::kAuto || ranks < 2 || !gpus) return;
  try {
    const std::filesystem::path file = LinkCacheFile(gpus, ranks);
    const CachedLinks links = ReadLinks(file, ThisMachine(GpuIdentities(ranks), gpus));
    if (links.table || file.empty()) return;
    fmt::print(stderr, "hearth: measuring how {} ranks exchange (once; hearth probe shows it)\n",
               ranks);
    WriteLinks(file, ProbeThisHost({.device = config.device, .ranks = ranks, .pairs = false}));
  } catch (const std::exception& error) {
    LogWarning(fmt::format("the links were not measured: {}", error.what()));
  }
}

}  // namespace hearth
