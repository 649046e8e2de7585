// What every command that computes with a model starts from.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"
#include "runtime/config/resolved_config.h"
#include "runtime/data/token_dataset.h"
#include "runtime/model/load_model.h"
#include "runtime/model/model_spec.h"
#include "runtime/plan/host_rates.h"
#include "runtime/plan/plan.h"
#include "runtime/telemetry/heartbeat.h"
#include "runtime/telemetry/progress.h"
#include "runtime/train/executor.h"

namespace hearth {

// What a rank has in a run over several boxes. Everything outlives the run.
struct BoxLinks {
  Bootstrap& box;         // the ranks of this box
  Bootstrap& peers;       // those with this one's number in every box, box by box
  Communicator& network;  // of the peers
  std::string host;       // this one's name
};

// What the launcher provides to a rank. Everything outlives the run.
struct RunEnvironment {
  Bootstrap& bootstrap;  // all ranks
  KernelBackend& backend;
  Communicator& communicator;  // of the ranks of this box
  Heartbeat& heartbeat;
  std::string installed_configs;         // the installed configs/ folder
  std::function<bool()> stop_requested;  // polled between steps; may be empty
  int host_threads = 1;                  // of the host optimizer
  // How rank 0 writes for people: progress, tables, curve; total_steps is left open.
  ProgressOptions progress{.enabled = false};
  // Changes a training plan before it is used, alike on every rank; may be empty.
  std::function<void(Plan&)> amend_plan;
  std::string exchange = {};                     // in words, how the ranks exchange
  std::string version = "unknown";               // of Hearth, for the manifests of checkpoints
  std::optional<BoxLinks> links = std::nullopt;  // where there are several boxes
  // What this host's memory gives, where that was measured; rank 0's counts.
  std::optional<HostRates> host_rates = std::nullopt;
  // The step of the run's own checkpoint that it goes on from, whatever `checkpoint.resume` says.
  std::optional<int64_t> goes_on_from = std::nullopt;

  RankGrid grid() const { return {bootstrap.world(), links ? links->peers.world() : 1}; }
  // Enqueued so far, for who watches.
  int64_t collectives() const {
    return communicator.enqueued() + (links ? links->network.enqueued() : 0);
  }
  Communicator* network() const { return links ? &links->network : nullptr; }
};

// What a trainer does before its first step, besides reading files and planning.
struct StartSeconds {
  double memory = 0;   // allocating it, pinned memory above all
  double state = 0;    // drawing or reading weights, or a checkpoint
  double publish = 0;  // working weights from the master weights
  double warm_up = 0;  // of the device: kernels and the choice of matmul algorithms
};

// Reads the model a configuration names; ConfigError for a wrong or missing one.
struct ModelSetup {
  LoadedModel loaded;
  ModelSpec spec;
  bool pretrained = false;  // start from the folder's weights
};
ModelSetup SetUpModel(const ResolvedConfig& resolved, const std::string& installed_configs);

// ConfigError for data of another tokenizer than the one in the model's folder, where both are
// known.
std::shared_ptr<const TokenDataset> OpenTrainingData(const ResolvedConfig& resolved,
                                                     const ModelSpec& spec);
// Null without evaluation datasets.
std::shared_ptr<const TokenDataset> OpenEvaluationData(const ResolvedConfig& resolved,
                                                       const ModelSpec& spec);

// Optimizer steps of the run: max_steps, or what num_epochs or max_tokens amount to. ConfigError
// when that is none.
int64_t TotalSteps(const ResolvedConfig& resolved, int64_t global_batch_size,
                   const TokenDataset& data);

// Reads elements [begin, begin + out) of the unit's state at home; the range lies in what this rank
// updates.
void LoadState(Executor& executor, int unit, StateKind kind, int64_t begin, std::span<float> out);

// Elements [begin, begin + out) of a parameter's master weights, assembled from all ranks; the same
// call on every rank, the same result everywhere.
void GatherMaster(Executor& executor, Bootstrap& bootstrap, const ParameterSpec& parameter,
                  int64_t begin, std::span<float> out);

// Writes the master weights as a Hugging Face folder; collective over the ranks of a box, of which
// the first writes. Calls `tick` between two pieces.
struct WeightExport {
  std::filesystem::path folder;
  WeightDType dtype = WeightDType::kBF16;
  std::function<void()> tick;
};
void ExportWeights(Executor& executor, Bootstrap& box, const ModelSetup& model,
                   const WeightExport& to);

}  // namespace hearth
