// What `hearth prepare` leaves beside its unfinished output, so that a killed one goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/data/hashing.h"
#include "runtime/data/prepare_chunks.h"
#include "runtime/data/shard_builder.h"

namespace hearth {

struct PrepareState {
  ChunkCursor cursor;      // what is before it is written
  int64_t bytes_done = 0;  // of input, in this pass
  int64_t documents = 0;   // read
  int64_t counted = -1;    // documents in all; -1: not counted
  int64_t truncated = 0;
  int64_t dropped = 0;
  ShardState train;
  std::optional<ShardState> holdout;

  bool operator==(const PrepareState&) const = default;
};

// Replaces the file in one step; `identity` says which inputs and options the state belongs to.
void WritePrepareState(const std::string& path, const Hash128& identity, const PrepareState& state);
// nullopt when there is no file, it is damaged, or it belongs to something else.
std::optional<PrepareState> ReadPrepareState(const std::string& path, const Hash128& identity);

}  // namespace hearth
