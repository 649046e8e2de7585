#include "launcher/run_links.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/host_name.h"
#include "runtime/data/hashing.h"
#include "runtime/data/mapped_file.h"

namespace hearth {

namespace {

// What is asked for by name; else connections of our own.
std::string_view NetworkKind(const RunConfig& config) {
  const CommBackend asked = config.comm.backend;
  const bool named = asked == CommBackend::kNccl || asked == CommBackend::kMpi;
  return named ? EnumName(asked) : "tcp";
}

}  // namespace

RunLinks::RunLinks(const RunConfig& config, Bootstrap& bootstrap, KernelBackend& backend,
                   const RunCommunicatorOptions& options)
    : bootstrap_(bootstrap), host_(HostName()) {
  const Topology topology = FindTopology(bootstrap, HostIdentity());
  if (topology.boxes > 1) {
    box_ = bootstrap.Split(bootstrap.rank() / topology.ranks_per_box);
    peers_ = bootstrap.Split(bootstrap.rank() % topology.ranks_per_box);
  }
  inside_ = MakeRunCommunicator(config, box(), backend, options);
  if (!peers_) return;
  const CommunicatorOptions made{.collective_timeout = std::chrono::milliseconds(
                                     static_cast<int64_t>(config.comm.collective_timeout_s * 1000)),
                                 .deterministic = config.deterministic,
                                 .interface = config.comm.interface.value_or("")};
  NetworkCommunicator network{.description = std::string(NetworkKind(config))};
  if (network.description == "tcp") {
    network = MakeNetworkCommunicator(*peers_, backend, made);
  } else {
    network.communicator = MakeCommunicator(network.description, *peers_, backend, made);
  }
  network_ = std::move(network.communicator);
  inside_.description += "; between hosts by " + network.description;
  if (!inside_.warning.empty() && !network.warning.empty()) inside_.warning += "; ";
  inside_.warning += network.warning;
}

CommunicatorMemory NetworkMemory(const RunConfig& config, int boxes, bool uses_gpus) {
  return MemoryOf({.kind = std::string(NetworkKind(config)),
                   .world = boxes,
                   .one_host = false,
                   .stage = uses_gpus});
}

std::optional<BoxLinks> RunLinks::links() const {
  if (!peers_) return std::nullopt;
  return BoxLinks{.box = *box_, .peers = *peers_, .network = *network_, .host = host_};
}

void RequireSameProgram(const BoxLinks& links) {
  if (links.box.rank() != 0) return;
  const std::string mine =
      links.host + "\n" + ToHex(Xxh3Hash128(std::string_view(MappedFile("/proc/self/exe").text())));
  const std::vector<std::string> all = GatherTexts(links.peers, mine);
  const auto host = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  for (const std::string& theirs : all) {
    if (theirs.substr(theirs.find('\n')) == all.front().substr(all.front().find('\n'))) continue;
    throw ConfigError(fmt::format(
        "command line: error: hearth on {} is another program than on {}; install the same file "
        "on every host",
        host(theirs), host(all.front())));
  }
}

}  // namespace hearth
