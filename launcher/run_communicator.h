// How the ranks of a run exchange.
#pragma once

#include <memory>

#include "comm/communicators.h"
#include "runtime/config/run_config.h"

namespace hearth {

// What a run's comm section asks for; see MakeCommunicator.
std::unique_ptr<Communicator> MakeRunCommunicator(const RunConfig& config, Bootstrap& bootstrap,
                                                  KernelBackend& backend);

// What such a communicator of that many ranks will take, as far as it can be known without them.
CommunicatorMemory ExpectedMemory(const RunConfig& config, int ranks, bool uses_gpus,
                                  bool one_host);

}  // namespace hearth
