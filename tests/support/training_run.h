// Small training runs inside one process, for tests that compare them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicators.h"
#include "kernels/api/kernel_backend.h"
#include "runtime/config/resolved_config.h"
#include "runtime/plan/plan.h"

namespace hearth::test {

// Text of keys of run.yaml by section: {"precision", "compute_dtype: bf16"}.
using TrainingKeys = std::vector<std::pair<std::string, std::string>>;

// What the matrices of training tests go through, and the keys that ask for it.
inline const std::vector<std::string> kPrecisions = {"fp32", "bf16", "fp8", "fp8_verified",
                                                     "fp8_head"};
TrainingKeys PrecisionKeys(const std::string& precision);
// Both, in that order.
TrainingKeys Join(TrainingKeys keys, const TrainingKeys& more);

struct TrainingRunOptions {
  int ranks = 1;
  int boxes = 1;        // that the ranks are spread over, equally
  int threads = 1;      // of each rank's backend
  std::string backend;  // as in InprocWorldOptions
  std::string model;    // text of a shape file; empty: SmallModel()
  TrainingKeys keys;    // further ones; later lines of the same section follow
  int64_t steps = 4;
  int64_t document_length = 0;  // 0: one document; else boundaries about every so many tokens
  double masked_share = 0;      // of the targets
  int files = 1;                // of the training data
  int64_t save_steps = 0;
  bool export_hf = false;  // at the end, into `folder`/out/hf
  // Where data and outputs lie: `folder`/out is the run's. Empty: a folder that is removed again.
  // An existing one is gone on with; its data stays.
  std::filesystem::path folder;
  std::function<void(Plan&)> amend_plan;  // as RunEnvironment's
  int64_t stop_after = -1;  // steps of this call after which to stop politely; -1: never
};

struct TrainingRunResult {
  std::vector<double> losses;       // by step
  std::vector<double> grad_norms;   // by step
  std::vector<double> eval_losses;  // before the first and after the last step
  std::vector<double> fp8_repairs;  // by step, with verified scales
  std::vector<float> weights;       // all master weights at the end, parameter by parameter
  bool boxes_agree = true;          // every box has these weights, moments and working weights
  std::string log;                  // log.jsonl
  int64_t steps = 0;                // done in all
  int64_t planned_bytes = 0;        // of rank 0's arenas on all tiers
  int64_t used_bytes = 0;           // their high-water marks
};

// Of runs that have done steps: losses, norms, evaluations and weights, to the bit.
void ExpectSameBits(const TrainingRunResult& a, const TrainingRunResult& b);

// A Qwen3-shaped model with odd sizes: grouped queries, an untied head, a vocabulary that needs
// padding.
std::string SmallModel();

// Trains on ranks that are threads, on text made from a fixed seed, in a folder of its own.
TrainingRunResult TrainInProcess(const TrainingRunOptions& options);

// `hearth gradients` on ranks that are threads.
void WriteGradients(const ResolvedConfig& resolved, int ranks, const std::filesystem::path& out,
                    bool with_logits);

// One rank of a run whose ranks are processes of one host.
struct TrainingRank {
  Bootstrap& bootstrap;
  KernelBackend& backend;  // new: a run allows no allocation after it has begun
  std::string_view kind;   // for MakeCommunicator
  CommunicatorOptions communicator;
  int boxes = 1;
};

// Collective; `options.ranks`, `threads` and `backend` do not matter. Every rank has the weights,
// rank 0 the rest of the result.
TrainingRunResult TrainAsRank(const TrainingRunOptions& options, const TrainingRank& rank);

// |a - b| / |b| in the Euclidean norm; NaN when either has a NaN or the sizes differ.
double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b);
double RelativeDifference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace hearth::test
