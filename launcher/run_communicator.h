// How the ranks of a run exchange.
#pragma once

#include <memory>
#include <string>

#include "comm/communicators.h"
#include "runtime/config/run_config.h"

namespace hearth {

struct RunCommunicatorOptions {
  // The copy engines go through the host; for measurements of what a box without peer access does.
  bool no_peer_access = false;
};

// The communicator of a run and, in words, how it exchanges.
struct RunCommunicator {
  std::unique_ptr<Communicator> communicator;
  std::string description;  // "all-gather by copy_engine; ..."
  std::string warning;      // for rank 0 to say; "" mostly
};

// What a run's comm section asks for; see MakeCommunicator. With `auto` and ranks on the GPUs of
// one host it is, by operation and size, what `hearth probe` has measured best on this very
// machine, and MPI where it has measured nothing: rank 0 reads the table, all take its choice. Copy
// engines that did not move data whole there go through the host whoever asks for them.
RunCommunicator MakeRunCommunicator(const RunConfig& config, Bootstrap& bootstrap,
                                    KernelBackend& backend,
                                    const RunCommunicatorOptions& options = {});

// What such a communicator of that many ranks will be, as far as it can be known without them.
struct ExpectedExchange {
  std::string description;
  CommunicatorMemory memory;
};
ExpectedExchange ExpectExchange(const RunConfig& config, int ranks, bool uses_gpus, bool one_host);

// Before the ranks of a run are started on the GPUs of this host: measures how they exchange where
// `auto` has to choose and no table says. Whatever goes wrong is a warning: the run goes by MPI.
void MeasureLinksFor(const RunConfig& config, int ranks);

}  // namespace hearth
