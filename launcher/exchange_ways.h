// The ways in which ranks can exchange, by the names that tables and logs have for them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicators.h"
#include "runtime/bench/links_bench.h"

namespace hearth {

// The copy engines, from peer to peer and with a stop in host memory.
inline constexpr const char* kPeersWay = "copy_engine";
inline constexpr const char* kThroughHostWay = "copy_engine, host";

struct ExchangeWay {
  std::string name;           // "copy_engine, host"
  std::string kind;           // of MakeCommunicator
  bool through_host = false;  // the copy engines'
};

// Those of ranks on GPUs, or on CPUs, in the order in which they are tried.
std::vector<ExchangeWay> ExchangeWays(bool gpus);
// ConfigError for another name.
ExchangeWay FindWay(const std::string& name);
// Those among which `comm.backend: auto` may choose: whose kind can be asked for by name.
std::vector<std::string> AllowedWays(bool gpus);

// By this way or not at all: CommError where the copy engines cannot reach a peer.
std::unique_ptr<Communicator> MakeWayCommunicator(const ExchangeWay& way, Bootstrap& bootstrap,
                                                  KernelBackend& backend,
                                                  CommunicatorOptions options);

}  // namespace hearth
