// Which checkpoint a run goes on from.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "comm/api/bootstrap.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/config/resolved_config.h"

namespace hearth {

// What checkpoint.resume asks for. auto: the newest of output_dir whose every byte is what was
// written; damaged ones are named on standard error and passed over. A folder: that one. Null:
// start from the beginning. Collective; all ranks share the reading. Creates and changes nothing.
// ConfigError (auto excepted) where output_dir has checkpoints that the run would leave behind as
// its own; IoError for a named folder that is damaged.
std::unique_ptr<Checkpoint> FindCheckpoint(const ResolvedConfig& resolved, Bootstrap& bootstrap,
                                           const VerifyOptions& reading);

// The configuration with the checkpoint's numeric choices where it leaves them open. ConfigError
// naming the key where it asks for others, or for another order of data or of random numbers.
ResolvedConfig KeepChoices(const ResolvedConfig& resolved, const Checkpoint& checkpoint);

// The section `precision` as it is printed, by leaf.
std::map<std::string, std::string> PrecisionOf(const ResolvedConfig& resolved);
// A warning that names every key of it with the value now and the one the checkpoint was trained
// with; "" where they are equal, or unknown.
std::string PrecisionChange(const ResolvedConfig& resolved, const Checkpoint& checkpoint);

// ConfigError where the optimizer state has other types than the plan's.
void RequireStateTypes(const ResolvedConfig& resolved, const Checkpoint& checkpoint);

// What identifies a configuration in a manifest.
Hash128 ConfigHash(const ResolvedConfig& resolved);

}  // namespace hearth
