// What memory a run finds on its machines, and what its processes hold of it.
#pragma once

#include <optional>

#include "runtime/plan/memory_budget.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// Asks every rank, once its backend and communicator are there and before it allocates anything
// else;
// the same answer on every rank: the least memory and the largest process. Collective.
MachineMemory MeasureMachine(const RunEnvironment& environment);

// The same of this process alone, and without its device: what the launcher can know. `ranks` share
// the host, each with such a communicator.
MachineMemory HostOf(int ranks, bool uses_gpus, const CommunicatorMemory& communicator);

// What a rank's process holds of each tier, arenas and all.
struct ProcessMemory {
  std::optional<int64_t> device_bytes;  // nullopt: the device has no memory of its own
  int64_t host_bytes = 0;
};
ProcessMemory MeasureProcess(const Device& device);

}  // namespace hearth
