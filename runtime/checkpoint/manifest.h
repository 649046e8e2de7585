// manifest.json: what a checkpoint consists of. Written last; a folder without one is no
// checkpoint.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/token_file.h"
#include "runtime/model/model_spec.h"
#include "runtime/state/stores.h"

namespace hearth {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr int64_t kManifestVersion = 1;

// What a run has to know of the run it goes on from, besides the tensors.
struct CheckpointInfo {
  std::string hearth_version;
  int64_t step = 0;           // steps done; also the position in the order of data
  int64_t skipped_steps = 0;  // of these, not finite
  int world = 1;              // ranks that wrote it
  int64_t seed = 0;           // with the step: every random draw to come
  int64_t data_seed = 0;
  int64_t sequence_len = 0;
  int64_t global_batch_size = 0;
  NumericConfiguration numeric;
  StateTypes types;
  Hash128 config_hash;       // of ResolvedConfig::IdentityText with checkpoint.resume: auto
  std::string model_folder;  // absolute; where tokenizer files lie; empty: nowhere
  std::vector<ShardHash> shards;
  std::vector<float> fp8_amax;  // Executor::AmaxHistory; finite, not negative
  // PrecisionOf its configuration; empty where an earlier version wrote the manifest.
  std::map<std::string, std::string> precision;
};

struct CheckpointFile {
  std::string name;  // a plain base name
  int64_t bytes = 0;
  Hash128 hash;  // XXH3-128 of the whole file
  bool operator==(const CheckpointFile&) const = default;
};

// Logical elements [begin, begin + count) of a parameter: a whole tensor of a file, [count].
struct CheckpointPiece {
  int file = 0;  // index in CheckpointManifest::files
  std::string tensor;
  int64_t begin = 0;
  int64_t count = 0;
  bool operator==(const CheckpointPiece&) const = default;
};

struct CheckpointParameter {
  std::string name;
  std::vector<int64_t> shape;
  // By StateKind; together all elements, in order.
  std::array<std::vector<CheckpointPiece>, kStateKindCount> pieces;
};

struct CheckpointManifest {
  CheckpointInfo info;
  std::vector<CheckpointFile> files;
  std::vector<CheckpointParameter> parameters;  // in the order of the ModelSpec
};

DType TypeOf(const StateTypes& types, StateKind kind);

// The bytes depend on the manifest only; the last member is the hash of all that precedes it.
std::string ManifestText(const CheckpointManifest& manifest);

// IoError "FILE:LINE:COLUMN: error: ..." for everything that is wrong with the text, whatever the
// text is: each file name is a plain one, each size is in range, the pieces of a parameter are all
// of its elements once.
CheckpointManifest ParseManifest(std::string_view text, const std::string& file);

// Reads the file and checks its hash first.
CheckpointManifest ReadManifest(const std::filesystem::path& file);

}  // namespace hearth
