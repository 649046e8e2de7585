// A run's configuration as the rest of Hearth reads it: one struct per section of run.yaml, one
// member per key, under the key's own name. The values given here are the defaults; fields.cpp
// lists every key's text form, range and meaning. A RunConfig that comes out of resolved_config.h
// is valid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

enum class DeviceKind { kAuto, kCpu, kCuda };
enum class ModelInit { kAuto, kRandom, kPretrained };
enum class DataFormat { kAuto, kHearth, kLlmc, kNanogpt, kMegatron, kLlmq };
enum class ClipMode { kExact, kPerTensor, kSpeculate };
enum class OptimizerType { kAdamw };
enum class FloatDtype { kFp32, kBf16 };
enum class MasterDtype { kFp32, kBf16Stochastic };
enum class LrSchedulerType { kConstant, kLinear, kCosine, kWsd };
enum class ComputeDtype { kFp32, kBf16, kFp8 };
enum class Fp8Recipe { kTensorwiseCurrent, kTensorwiseVerified };
enum class Fp8Format { kE4m3, kHybrid };
enum class AttentionChoice { kAuto, kOwn, kCudnn };
enum class ReductionOrder { kAuto, kMicroThenRank, kRankThenMicro };
enum class PlanMode { kAuto, kManual, kFile };
enum class RecomputeItem { kSwiglu, kNorm, kFfn, kQkv, kAttention, kBlock };
enum class OffloadTarget { kAuto, kNone, kHost, kSsd };
enum class ScheduleKind { kAuto, kHorizontal, kVertical };
enum class OptimizerDevice { kAuto, kGpu, kCpu };
enum class CommBackend { kAuto, kNccl, kCopyEngine, kMpi };
enum class ResumeMode { kAuto, kNone, kFolder };
enum class ExportHf { kEnd, kNone };
enum class OnNonfinite { kStop, kSkip };
enum class ReportTarget { kJsonl, kTensorboard, kWandb, kPrometheus };

// The word run.yaml uses for a value, such as "bf16_stochastic".
std::string_view EnumName(DeviceKind value);
std::string_view EnumName(ModelInit value);
std::string_view EnumName(DataFormat value);
std::string_view EnumName(ClipMode value);
std::string_view EnumName(OptimizerType value);
std::string_view EnumName(FloatDtype value);
std::string_view EnumName(MasterDtype value);
std::string_view EnumName(LrSchedulerType value);
std::string_view EnumName(ComputeDtype value);
std::string_view EnumName(Fp8Recipe value);
std::string_view EnumName(Fp8Format value);
std::string_view EnumName(AttentionChoice value);
std::string_view EnumName(ReductionOrder value);
std::string_view EnumName(RecomputeItem value);
std::string_view EnumName(OffloadTarget value);
std::string_view EnumName(ScheduleKind value);
std::string_view EnumName(OptimizerDevice value);
std::string_view EnumName(CommBackend value);
std::string_view EnumName(ExportHf value);
std::string_view EnumName(OnNonfinite value);
std::string_view EnumName(ReportTarget value);

struct ModelSection {
  std::string name_or_path;  // required; a shape file or a Hugging Face folder
  ModelInit init = ModelInit::kAuto;
  bool operator==(const ModelSection&) const = default;
};

struct DatasetEntry {
  std::string path;  // required; a file or a glob
  DataFormat format = DataFormat::kAuto;
  double weight = 1.0;  // relative share of the samples, > 0
  bool operator==(const DatasetEntry&) const = default;
};

struct DataSection {
  std::vector<DatasetEntry> datasets;       // required, at least one
  std::vector<DatasetEntry> eval_datasets;  // empty: no evaluation
  int64_t sequence_len = 1024;
  bool sample_packing = true;
  int64_t data_seed = 42;
  bool operator==(const DataSection&) const = default;
};

// After resolution exactly one of max_steps, num_epochs and max_tokens is set, and exactly one of
// global_batch_size and gradient_accumulation_steps (then with a micro_batch_size).
struct TrainingSection {
  std::optional<int64_t> max_steps;
  std::optional<int64_t> num_epochs = 1;
  std::optional<int64_t> max_tokens;
  std::optional<int64_t> micro_batch_size;        // sequences; nullopt: auto
  std::optional<int64_t> global_batch_size = 64;  // sequences per step, over all ranks
  std::optional<int64_t> gradient_accumulation_steps;
  double max_grad_norm = 1.0;  // 0: no clipping
  ClipMode clip_mode = ClipMode::kExact;
  double z_loss = 0.0;
  bool operator==(const TrainingSection&) const = default;
};

struct OptimizerSection {
  OptimizerType optimizer_type = OptimizerType::kAdamw;
  double learning_rate = 3.0e-4;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.95;
  double adam_epsilon = 1.0e-8;
  double weight_decay = 0.1;
  FloatDtype m_dtype = FloatDtype::kBf16;
  FloatDtype v_dtype = FloatDtype::kBf16;
  MasterDtype master_dtype = MasterDtype::kFp32;
  bool operator==(const OptimizerSection&) const = default;
};

// After resolution exactly one of warmup_steps and warmup_ratio is set; decay_steps only under wsd.
struct LrSchedulerSection {
  LrSchedulerType lr_scheduler_type = LrSchedulerType::kCosine;
  std::optional<int64_t> warmup_steps;
  std::optional<double> warmup_ratio = 0.03;
  std::optional<int64_t> decay_steps;
  double min_lr_ratio = 0.1;
  bool operator==(const LrSchedulerSection&) const = default;
};

struct PrecisionSection {
  ComputeDtype compute_dtype = ComputeDtype::kFp8;
  Fp8Recipe fp8_recipe = Fp8Recipe::kTensorwiseCurrent;
  Fp8Format fp8_format = Fp8Format::kE4m3;
  bool fp8_fast_accumulation = false;
  bool fp8_lm_head = false;
  double bf16_finish_ratio = 0.0;  // of the steps, the last ones; with kFp8 only
  AttentionChoice attention_provider = AttentionChoice::kAuto;
  FloatDtype grad_dtype = FloatDtype::kBf16;  // fp32 after resolution when compute_dtype is fp32
  bool operator==(const PrecisionSection&) const = default;
};

struct ParallelSection {
  int64_t zero_stage = 1;
  ReductionOrder reduction_order = ReductionOrder::kAuto;
  bool operator==(const ParallelSection&) const = default;
};

struct PlanChoice {
  PlanMode mode = PlanMode::kAuto;
  std::string path;  // of plan.yaml, when mode is kFile
  bool operator==(const PlanChoice&) const = default;
};

// A share of the memory there is, or a size taken as given.
struct MemoryBudget {
  double fraction = 1.0;  // used when bytes is not set
  std::optional<int64_t> bytes;
  bool operator==(const MemoryBudget&) const = default;
};

// The key `optimizer` of this section is only a short form: resolution copies it to m, v and master
// and leaves it unset.
struct OffloadSection {
  OffloadTarget m = OffloadTarget::kAuto;
  OffloadTarget v = OffloadTarget::kAuto;
  OffloadTarget master = OffloadTarget::kAuto;
  OffloadTarget weights = OffloadTarget::kAuto;
  OffloadTarget gradients = OffloadTarget::kAuto;
  OffloadTarget residual = OffloadTarget::kAuto;
  std::optional<OffloadTarget> optimizer;
  bool operator==(const OffloadSection&) const = default;
};

struct MemorySection {
  PlanChoice plan;
  MemoryBudget gpu_budget{.fraction = 0.95, .bytes = std::nullopt};
  MemoryBudget host_budget{.fraction = 0.80, .bytes = std::nullopt};
  std::optional<std::vector<RecomputeItem>> recompute;  // nullopt: auto; empty: none
  OffloadSection offload;
  ScheduleKind schedule = ScheduleKind::kAuto;
  std::optional<int64_t> micro_batches_per_group;  // nullopt: auto
  OptimizerDevice optimizer_device = OptimizerDevice::kAuto;
  std::optional<int64_t> resident_layers;      // nullopt: auto
  std::optional<int64_t> host_updated_layers;  // nullopt: auto
  std::optional<int64_t> lm_head_chunks;       // nullopt: auto
  int64_t head_slab_tokens = 4096;
  std::optional<int64_t> attention_chunks;  // nullopt: auto
  std::optional<std::string> ssd_path;
  bool operator==(const MemorySection&) const = default;
};

struct CommSection {
  CommBackend backend = CommBackend::kAuto;
  std::optional<std::string> interface;  // nullopt: auto
  double init_timeout_s = 300;
  double collective_timeout_s = 100;
  bool operator==(const CommSection&) const = default;
};

struct ResumeChoice {
  ResumeMode mode = ResumeMode::kAuto;
  std::string path;  // of a checkpoint's folder, when mode is kFolder
  bool operator==(const ResumeChoice&) const = default;
};

struct CheckpointSection {
  ResumeChoice resume;
  int64_t save_steps = 500;                     // 0: not by steps
  double save_interval_minutes = 15;            // 0: not by time
  std::optional<int64_t> save_total_limit = 3;  // nullopt: keep all
  bool async_save = true;
  ExportHf export_hf = ExportHf::kEnd;
  bool operator==(const CheckpointSection&) const = default;
};

struct ResilienceSection {
  OnNonfinite on_nonfinite = OnNonfinite::kStop;
  int64_t max_skipped_steps = 10;
  int64_t max_restarts = 3;
  double heartbeat_s = 2;
  bool operator==(const ResilienceSection&) const = default;
};

struct EvalSection {
  int64_t eval_steps = 100;                      // 0: only before the first and after the last step
  std::optional<int64_t> eval_max_batches = 40;  // nullopt: all
  bool operator==(const EvalSection&) const = default;
};

struct LoggingSection {
  int64_t logging_steps = 1;
  int64_t fp8_amax_steps = 10;
  std::vector<ReportTarget> report_to = {ReportTarget::kJsonl, ReportTarget::kTensorboard};
  std::vector<int64_t> trace_steps;
  bool operator==(const LoggingSection&) const = default;
};

struct LaunchSection {
  std::optional<int64_t> nproc_per_node;  // nullopt: auto
  std::optional<std::string> hostfile;
  std::optional<bool> bind_cores;  // nullopt: auto
  bool operator==(const LaunchSection&) const = default;
};

struct RunConfig {
  int64_t schema_version = 1;
  std::string run_name;    // after resolution never empty
  std::string output_dir;  // after resolution never empty
  int64_t seed = 42;
  bool deterministic = true;
  DeviceKind device = DeviceKind::kAuto;
  ModelSection model;
  DataSection data;
  TrainingSection training;
  OptimizerSection optimizer;
  LrSchedulerSection lr_scheduler;
  PrecisionSection precision;
  ParallelSection parallel;
  MemorySection memory;
  CommSection comm;
  CheckpointSection checkpoint;
  ResilienceSection resilience;
  EvalSection eval;
  LoggingSection logging;
  LaunchSection launch;
  bool operator==(const RunConfig&) const = default;
};

// Steps of the warm-up in a run of `total_steps`: warmup_steps, or warmup_ratio of the run rounded
// up.
int64_t WarmupSteps(const LrSchedulerSection& lr_scheduler, int64_t total_steps);

// The last steps of an FP8 run that compute in bf16: bf16_finish_ratio of `total_steps` rounded
// down, never all of them.
int64_t FinishSteps(const PrecisionSection& precision, int64_t total_steps);

}  // namespace hearth
