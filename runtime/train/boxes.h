// Starting a run over several boxes, which share no disk: the first one reads, the others are told.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// All of these are collective and, with one box, what they are named after.

// SetUpModel; only the first box needs the model's files.
ModelSetup SetUpModelTogether(const ResolvedConfig& resolved, const RunEnvironment& environment);

// FindCheckpoint; outside the first box it has no files, only what the manifest says. IoError where
// the run goes on from its own checkpoint and cannot.
std::unique_ptr<Checkpoint> FindCheckpointTogether(const ResolvedConfig& resolved,
                                                   const RunEnvironment& environment);

// Runs `work` in the first box, which calls `tick` at least once for each few seconds of it; the
// others wait meanwhile. Everywhere when there is one box. `progress` is what tells the heartbeat
// where the run is: called at each tick, and by who waits whenever it hears of one.
void InFirstBox(const RunEnvironment& environment, const std::function<void()>& progress,
                const std::function<void(const std::function<void()>& tick)>& work);

// Gives every box the first one's optimizer state. What is equal already is compared, not sent.
void CopyStateFromFirstBox(Executor& executor, const RunEnvironment& environment);

// ConfigError naming the first host whose files of the key data.datasets, or data.eval_datasets,
// are not those of the first box.
void RequireEqualData(const ResolvedConfig& resolved, std::string_view key,
                      const TokenDataset& data, const RunEnvironment& environment);

}  // namespace hearth
