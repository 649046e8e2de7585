// The communicators of a run: inside a box and, where the ranks are on several hosts, between them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "comm/communicators.h"
#include "launcher/run_communicator.h"
#include "runtime/config/run_config.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// Collective to make and to destroy; the bootstrap and the backend must outlive it.
class RunLinks {
 public:
  // See MakeRunCommunicator; between boxes nccl or mpi where comm.backend names it, else as
  // MakeNetworkCommunicator. ConfigError where the hosts cannot be boxes of one run.
  RunLinks(const RunConfig& config, Bootstrap& bootstrap, KernelBackend& backend,
           const RunCommunicatorOptions& options = {});

  // Of the ranks of this box.
  Communicator& communicator() const { return *inside_.communicator; }
  // As RunCommunicator's.
  const std::string& description() const { return inside_.description; }
  const std::string& warning() const { return inside_.warning; }
  // Null: there is one box.
  std::optional<BoxLinks> links() const;
  // The ranks of this box.
  Bootstrap& box() const { return box_ ? *box_ : bootstrap_; }

 private:
  Bootstrap& bootstrap_;
  const std::string host_;
  std::unique_ptr<Bootstrap> box_;    // null: there is one box
  std::unique_ptr<Bootstrap> peers_;  // as this
  RunCommunicator inside_;
  std::unique_ptr<Communicator> network_;
};

// What the communicator between so many boxes will take.
CommunicatorMemory NetworkMemory(const RunConfig& config, int boxes, bool uses_gpus);

// ConfigError on all hosts, naming the odd one, when this program is not the same file everywhere.
void RequireSameProgram(const BoxLinks& links);

}  // namespace hearth
