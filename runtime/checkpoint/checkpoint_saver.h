// Writes checkpoints: every rank its part of the state, rank 0 the manifest.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "comm/api/bootstrap.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/model/safetensors.h"

namespace hearth {

// Moves a tensor of any tier into ordinary host memory; blocks.
using StateDownload = std::function<void(const TensorView& source, void* destination)>;

struct CheckpointSaverOptions {
  std::filesystem::path output_dir;  // on a file system that the ranks of the first box share
  std::optional<int64_t> total_limit;
  // True: Start copies this rank's part into host memory (the plan has saves_from_copy); a thread
  // writes it.
  bool async = false;
  std::function<void()> progress;  // called now and then by the calls below; may be empty
};

// What a rank writes: tensors in one safetensors file, in order.
struct CheckpointPart {
  struct Tensor {
    int unit = 0;
    StateKind kind = StateKind::kMaster;
    int64_t unit_begin = 0;  // first element in the unit
    size_t parameter = 0;    // index in the ModelSpec
    CheckpointPiece piece;
  };
  std::string file;
  std::vector<Tensor> tensors;  // empty: no file
  int64_t bytes = 0;            // of the tensors
};

// Each rank's shard (Plan::Shard) of every unit, whoever updates it; nothing outside the first box.
CheckpointPart PartOf(const Plan& plan, const ModelSpec& spec, int rank);

// One save at a time; everything it borrows must outlive it. Start and Finish are collective.
class CheckpointSaver {
 public:
  CheckpointSaver(CheckpointSaverOptions options, Bootstrap& bootstrap, const RankMemory& memory,
                  const OptimizerStore& optimizer, StateDownload download);
  // Waits for the thread. What was not finished gets no name and is removed at the next start.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  // Takes the state as it is now. On return it may change. `matmuls`: rank 0's
  // KernelBackend::MatmulTable, empty where there is none.
  void Start(const CheckpointInfo& info, const std::string& matmuls);
  // Between Start and Finish.
  bool is_active() const { return active_; }
  // This rank's part is on the disk, or has failed.
  bool is_written() const { return written_.load(std::memory_order_acquire); }
  // Waits until all ranks' parts are on the disk, then gives the checkpoint its name and removes
  // old ones. Nothing remains of a save that failed: the text says why, empty: success. The same on
  // all ranks.
  std::string Finish();

 private:
  struct Result {
    int64_t bytes = 0;
    Hash128 hash;
    std::string error;
  };

  std::string Prepare(int64_t step, const std::string& matmuls);
  void WriteText(const char* name, const std::string& text);
  TensorView View(const CheckpointPart::Tensor& tensor, int64_t first, int64_t count) const;
  void Snapshot();
  // `read` gives the next bytes of the part, at most as many as asked for.
  Result WritePart(const std::function<std::span<const std::byte>(
                       const CheckpointPart::Tensor&, int64_t first, int64_t count)>& read) const;
  void WriteStreaming();
  void WriteSnapshot();
  std::vector<Result> ExchangeResults();
  CheckpointManifest MakeManifest(const std::vector<Result>& results) const;
  std::string Publish(const std::vector<Result>& results);

  const CheckpointSaverOptions options_;
  Bootstrap& bootstrap_;
  const RankMemory& memory_;
  const OptimizerStore& optimizer_;
  const StateDownload download_;
  const CheckpointPart part_;
  std::span<std::byte> snapshot_;  // of the host tier, when asynchronous
  CheckpointInfo info_;
  std::filesystem::path folder_;       // unfinished
  std::vector<CheckpointFile> texts_;  // rank 0: files that are no part of the state
  bool active_ = false;
  std::string error_;  // of Start, the same on all ranks
  Result result_;      // the thread's until written_
  std::atomic<bool> written_{false};
  std::thread writer_;
};

}  // namespace hearth
