// A checkpoint's folder, read.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <utility>

#include "runtime/checkpoint/manifest.h"
#include "runtime/model/safetensors.h"
#include "runtime/state/host_transfer.h"

namespace hearth {

inline constexpr const char* kCheckpointModelName = "config.json";
inline constexpr const char* kCheckpointMatmulsName = "matmuls.txt";

// How a file is gone through.
struct VerifyOptions {
  int threads = 1;
  std::function<void()> progress = {};  // called now and then by the calling thread; may be empty
};

// Read and ReadMaster may be called by several threads at once. IoError for whatever is wrong with
// the files.
class Checkpoint {
 public:
  // Reads the manifest and checks the sizes of the files.
  explicit Checkpoint(const std::filesystem::path& folder);
  // One that another host has: its manifest is known, none of its files.
  Checkpoint(std::filesystem::path folder, CheckpointManifest manifest)
      : folder_(std::move(folder)), manifest_(std::move(manifest)) {}

  const std::filesystem::path& folder() const { return folder_; }
  const CheckpointManifest& manifest() const { return manifest_; }

  // Reads the whole file and compares its hash. Takes two megabytes of memory for each thread.
  void VerifyFile(size_t index, const VerifyOptions& options = {}) const;

  // The model that was trained, from the checkpoint's config.json.
  ModelSpec ReadModel() const;
  // KernelBackend::MatmulTable of the run, empty where its backend had none.
  std::string ReadMatmulTable() const;
  // ConfigError when the parameters are not those of `spec`.
  void RequireModel(const ModelSpec& spec) const;

  // Elements [begin, begin + out.size() / element size) in the type they are stored in; `parameter`
  // is an index of the manifest's, hence the ModelSpec's.
  void Read(size_t parameter, StateKind kind, int64_t begin, std::span<std::byte> out) const;
  // Master weights in fp32, exactly.
  void ReadMaster(size_t parameter, int64_t begin, std::span<float> out) const;

 private:
  const SafetensorsFile& Open(int file) const;
  bool Lists(std::string_view name) const;

  std::filesystem::path folder_;
  CheckpointManifest manifest_;
  mutable std::mutex mutex_;                     // guards open_
  mutable std::map<int, SafetensorsFile> open_;  // by index of the manifest's files
};

// Where a checkpoint's state goes, and who takes it there.
struct StateDestination {
  const OptimizerStore& optimizer;
  const RankMemory& memory;
  const HostTransfer& transfer;
  int threads = 1;
  std::function<void()> tick;  // called by the calling thread, now and then
};

// Fills master weights and moments of what this rank updates; threads read into host memory where
// that is the state's home. The model and the state's types are the checkpoint's. What is thrown is
// the same for any number of threads.
void LoadOptimizerState(const Checkpoint& checkpoint, const StateDestination& to);

}  // namespace hearth
