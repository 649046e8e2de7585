// The rows of the field table.
#include "runtime/config/fields.h"

#include <utility>

#include "runtime/config/codecs.h"

namespace hearth {
namespace {

constexpr IntegerRange kCount{.min = 1, .max = kMaxConfigInteger};
constexpr IntegerRange kCountOrZero{.min = 0, .max = kMaxConfigInteger};
constexpr IntegerRange kSequences{.min = 1, .max = int64_t{1} << 24};
constexpr IntegerRange kTokens{.min = 1, .max = int64_t{1} << 24};
constexpr IntegerRange kLayers{.min = 0, .max = int64_t{1} << 20};
constexpr IntegerRange kChunks{.min = 1, .max = int64_t{1} << 20};
constexpr NumberRange kSeconds{.min = 0, .max = 86400, .open_min = true};
constexpr NumberRange kShare{.min = 0, .max = 1};
constexpr NumberRange kShareBelowOne{.min = 0, .max = 1, .open_max = true};
constexpr NumberRange kPenalty{.min = 0, .max = 1000};

template <typename Inner>
OptionalCodec<Inner> AutoOr(Inner inner) {
  return {"auto", std::move(inner)};
}

template <typename Inner>
OptionalCodec<Inner> NullOr(Inner inner) {
  return {"null", std::move(inner)};
}

// Adds the rows of one section. `Access` is a generic lambda from a RunConfig to its struct.
template <typename Access>
class SectionRows {
 public:
  SectionRows(std::vector<Field>& table, std::string prefix, Access access)
      : table_(table), prefix_(std::move(prefix)), access_(access) {}

  template <typename Section, typename Value, typename Codec>
  Field& Add(std::string_view name, Value Section::*member, Codec codec, std::string_view meaning) {
    Field field;
    field.path = prefix_ + std::string(name);
    field.meaning = meaning;
    field.form = codec.Form();
    field.words = codec.Words();
    field.is_list = Codec::kIsList;
    field.read = [access = access_, member, codec, path = field.path, form = field.form](
                     RunConfig& config, const YamlDocument& document, const YamlNode& node) {
      access(config).*member = codec.Read({document, node, path, form});
    };
    field.print = [access = access_, member, codec](const RunConfig& config) {
      return codec.Print(access(config).*member);
    };
    table_.push_back(std::move(field));
    return table_.back();
  }

 private:
  std::vector<Field>& table_;
  std::string prefix_;
  Access access_;
};

void AddTopLevel(std::vector<Field>& table) {
  SectionRows rows(
      table, "", [](auto& config) -> auto& { return config; });
  rows.Add("schema_version", &RunConfig::schema_version, IntegerCodec({.min = 1, .max = 1}),
           "version of this file's format");
  rows.Add("run_name", &RunConfig::run_name, DerivedTextCodec("a name"),
           "name of the run; null: the file's name without .yaml");
  rows.Add("output_dir", &RunConfig::output_dir, DerivedTextCodec("a folder"),
           "folder of everything the run writes; null: runs/<run_name>");
  rows.Add("seed", &RunConfig::seed, IntegerCodec(kCountOrZero),
           "seed of initialisation and stochastic rounding");
  rows.Add("deterministic", &RunConfig::deterministic, BooleanCodec{},
           "same inputs, same bits, run to run");
  rows.Add("device", &RunConfig::device, EnumCodec<DeviceKind>{},
           "where to compute; auto: a GPU where one works, else the CPU");
}

void AddModel(std::vector<Field>& table) {
  SectionRows rows(
      table, "model.", [](auto& config) -> auto& { return config.model; });
  rows.Add("name_or_path", &ModelSection::name_or_path, TextCodec("a shape file or a folder"),
           "a model shape (configs/models/*.yaml) or a local Hugging Face folder; nothing is "
           "downloaded")
      .example = "model: {name_or_path: configs/models/tiny.yaml}";
  rows.Add("init", &ModelSection::init, EnumCodec<ModelInit>{},
           "initial weights; auto: pretrained where the folder has weights, else random");
}

void AddData(std::vector<Field>& table) {
  SectionRows rows(
      table, "data.", [](auto& config) -> auto& { return config.data; });
  rows.Add("datasets", &DataSection::datasets, DatasetsCodec(/*allow_empty=*/false),
           "token files to train on, mixed by weight")
      .example = "data: {datasets: [{path: FILE}]}";
  rows.Add("eval_datasets", &DataSection::eval_datasets, DatasetsCodec(/*allow_empty=*/true),
           "token files to evaluate on; []: no evaluation");
  rows.Add("sequence_len", &DataSection::sequence_len, IntegerCodec(kTokens),
           "tokens per sequence");
  rows.Add("sample_packing", &DataSection::sample_packing, BooleanCodec{},
           "several documents in a sequence, isolated from each other in attention");
  rows.Add("data_seed", &DataSection::data_seed, IntegerCodec(kCountOrZero),
           "seed of the order of the data");
}

void AddTraining(std::vector<Field>& table) {
  SectionRows rows(
      table, "training.", [](auto& config) -> auto& { return config.training; });
  rows.Add("max_steps", &TrainingSection::max_steps, NullOr(IntegerCodec(kCount)),
           "length of the run in optimizer steps; only one of max_steps, num_epochs, max_tokens");
  rows.Add("num_epochs", &TrainingSection::num_epochs, NullOr(IntegerCodec(kCount)),
           "length of the run in passes over the data");
  rows.Add("max_tokens", &TrainingSection::max_tokens, NullOr(IntegerCodec(kCount)),
           "length of the run in tokens");
  rows.Add("micro_batch_size", &TrainingSection::micro_batch_size, AutoOr(IntegerCodec(kSequences)),
           "sequences a rank computes at once");
  rows.Add("global_batch_size", &TrainingSection::global_batch_size,
           NullOr(IntegerCodec(kSequences)),
           "sequences per step over all ranks; not with gradient_accumulation_steps");
  rows.Add("gradient_accumulation_steps", &TrainingSection::gradient_accumulation_steps,
           NullOr(IntegerCodec(kSequences)), "micro-batches per step and rank");
  rows.Add("max_grad_norm", &TrainingSection::max_grad_norm, NumberCodec({.min = 0}),
           "the gradient's norm is clipped to this; 0: no clipping");
  rows.Add("clip_mode", &TrainingSection::clip_mode, EnumCodec<ClipMode>{},
           "exact: by the norm of the whole gradient");
  rows.Add("z_loss", &TrainingSection::z_loss, NumberCodec(kPenalty),
           "weight of the mean squared log-sum-exp of the logits in the loss");
}

void AddOptimizer(std::vector<Field>& table) {
  SectionRows rows(
      table, "optimizer.", [](auto& config) -> auto& { return config.optimizer; });
  rows.Add("optimizer_type", &OptimizerSection::optimizer_type, EnumCodec<OptimizerType>{},
           "the optimizer");
  rows.Add("learning_rate", &OptimizerSection::learning_rate,
           NumberCodec({.min = 0, .max = 1000, .open_min = true}), "peak learning rate");
  rows.Add("adam_beta1", &OptimizerSection::adam_beta1, NumberCodec(kShareBelowOne),
           "decay of the first moment");
  rows.Add("adam_beta2", &OptimizerSection::adam_beta2, NumberCodec(kShareBelowOne),
           "decay of the second moment");
  rows.Add("adam_epsilon", &OptimizerSection::adam_epsilon,
           NumberCodec({.min = 0, .max = 1, .open_min = true}), "added outside the square root");
  rows.Add("weight_decay", &OptimizerSection::weight_decay, NumberCodec(kPenalty),
           "decoupled decay of matrices and embeddings");
  rows.Add("m_dtype", &OptimizerSection::m_dtype, EnumCodec<FloatDtype>{},
           "storage of the first moment");
  rows.Add("v_dtype", &OptimizerSection::v_dtype, EnumCodec<FloatDtype>{},
           "storage of the second moment");
  rows.Add("master_dtype", &OptimizerSection::master_dtype, EnumCodec<MasterDtype>{},
           "storage of the master weights");
}

void AddLrScheduler(std::vector<Field>& table) {
  SectionRows rows(
      table, "lr_scheduler.", [](auto& config) -> auto& { return config.lr_scheduler; });
  rows.Add("lr_scheduler_type", &LrSchedulerSection::lr_scheduler_type,
           EnumCodec<LrSchedulerType>{}, "shape of the learning rate after the warm-up");
  rows.Add("warmup_steps", &LrSchedulerSection::warmup_steps, NullOr(IntegerCodec(kCountOrZero)),
           "warm-up in steps; not with warmup_ratio");
  rows.Add("warmup_ratio", &LrSchedulerSection::warmup_ratio, NullOr(NumberCodec(kShare)),
           "warm-up as a share of the run");
  rows.Add("decay_steps", &LrSchedulerSection::decay_steps, NullOr(IntegerCodec(kCount)),
           "last steps in which wsd decays; required by wsd");
  rows.Add("min_lr_ratio", &LrSchedulerSection::min_lr_ratio, NumberCodec(kShare),
           "floor of the learning rate as a share of its peak");
}

void AddPrecision(std::vector<Field>& table) {
  SectionRows rows(
      table, "precision.", [](auto& config) -> auto& { return config.precision; });
  rows.Add("compute_dtype", &PrecisionSection::compute_dtype, EnumCodec<ComputeDtype>{},
           "precision of the block matmuls");
  rows.Add("fp8_recipe", &PrecisionSection::fp8_recipe, EnumCodec<Fp8Recipe>{},
           "how FP8 scales are chosen");
  rows.Add("fp8_format", &PrecisionSection::fp8_format, EnumCodec<Fp8Format>{},
           "hybrid: output gradients in E5M2");
  rows.Add("fp8_fast_accumulation", &PrecisionSection::fp8_fast_accumulation, BooleanCodec{},
           "forward matmuls in FP8: faster, less exact sums on a GPU; exact on the CPU");
  rows.Add("fp8_lm_head", &PrecisionSection::fp8_lm_head, BooleanCodec{},
           "the LM head's matmuls in FP8 too; with compute_dtype fp8");
  rows.Add("bf16_finish_ratio", &PrecisionSection::bf16_finish_ratio, NumberCodec(kShareBelowOne),
           "last share of the steps that computes in bf16; with compute_dtype fp8");
  rows.Add("attention_provider", &PrecisionSection::attention_provider,
           EnumCodec<AttentionChoice>{},
           "whose attention a GPU runs; auto: cuDNN's where it is measured to be faster");
  rows.Add("grad_dtype", &PrecisionSection::grad_dtype, EnumCodec<FloatDtype>{},
           "storage of accumulated gradients; always fp32 under compute_dtype fp32");
}

void AddParallel(std::vector<Field>& table) {
  SectionRows rows(
      table, "parallel.", [](auto& config) -> auto& { return config.parallel; });
  rows.Add("zero_stage", &ParallelSection::zero_stage, IntegerCodec({.min = 0, .max = 3}),
           "what ranks share out: 0: nothing, 1: optimizer state and master weights, 2: gradients "
           "too, 3: block weights too");
  rows.Add("reduction_order", &ParallelSection::reduction_order, EnumCodec<ReductionOrder>{},
           "order of the gradient sums");
}

void AddMemory(std::vector<Field>& table) {
  SectionRows rows(
      table, "memory.", [](auto& config) -> auto& { return config.memory; });
  rows.Add("plan", &MemorySection::plan, PlanCodec{}, "who decides the keys of this section");
  rows.Add("gpu_budget", &MemorySection::gpu_budget, BudgetCodec{},
           "device memory the run may take");
  rows.Add("host_budget", &MemorySection::host_budget, BudgetCodec{},
           "host memory the run may take");
  rows.Add("recompute", &MemorySection::recompute, RecomputeCodec{},
           "activations computed again in the backward pass");
  SectionRows offload(
      table, "memory.offload.", [](auto& config) -> auto& { return config.memory.offload; });
  const EnumCodec<OffloadTarget> target;
  offload.Add("m", &OffloadSection::m, target, "where Adam's first moment lives");
  offload.Add("v", &OffloadSection::v, target, "where Adam's second moment lives");
  offload.Add("master", &OffloadSection::master, target, "where the master weights live");
  offload.Add("weights", &OffloadSection::weights, target, "where the compute weights live");
  offload.Add("gradients", &OffloadSection::gradients, target, "where the gradients live");
  offload.Add("residual", &OffloadSection::residual, target, "where the block inputs live");
  offload.Add("optimizer", &OffloadSection::optimizer, NullOr(target),
              "sets m, v and master together");
  rows.Add("schedule", &MemorySection::schedule, EnumCodec<ScheduleKind>{},
           "order of micro-batches and layers; auto: vertical where blocks are recomputed and "
           "their inputs "
           "offloaded");
  rows.Add("micro_batches_per_group", &MemorySection::micro_batches_per_group,
           AutoOr(IntegerCodec(kSequences)), "micro-batches that pass a layer together");
  rows.Add("optimizer_device", &MemorySection::optimizer_device, EnumCodec<OptimizerDevice>{},
           "where the update is computed; cpu: beside the state in host memory");
  rows.Add("resident_layers", &MemorySection::resident_layers, AutoOr(IntegerCodec(kLayers)),
           "blocks whose optimizer state stays on the device where the others' is offloaded; auto: "
           "as many as the budget leaves room for");
  rows.Add("host_updated_layers", &MemorySection::host_updated_layers,
           AutoOr(IntegerCodec(kLayers)),
           "optimizer_device gpu: blocks that the host updates meanwhile, of those whose state is "
           "offloaded");
  rows.Add("lm_head_chunks", &MemorySection::lm_head_chunks, AutoOr(IntegerCodec(kChunks)),
           "pieces in which logits are computed, each of whole slabs");
  rows.Add("head_slab_tokens", &MemorySection::head_slab_tokens, IntegerCodec(kTokens),
           "tokens whose share of the head's gradient is summed by one call; part of the numerics");
  rows.Add("attention_chunks", &MemorySection::attention_chunks, AutoOr(IntegerCodec(kChunks)),
           "pieces in which attention is computed");
  rows.Add("ssd_path", &MemorySection::ssd_path, NullOr(TextCodec("a folder")),
           "folder on the SSD that takes offloaded state");
}

void AddComm(std::vector<Field>& table) {
  SectionRows rows(
      table, "comm.", [](auto& config) -> auto& { return config.comm; });
  rows.Add("backend", &CommSection::backend, EnumCodec<CommBackend>{},
           "what moves bytes between ranks");
  rows.Add("interface", &CommSection::interface, AutoOr(TextCodec("a network interface")),
           "network device between machines, of one name on all");
  rows.Add("init_timeout_s", &CommSection::init_timeout_s, NumberCodec(kSeconds),
           "seconds to wait for all ranks at the start");
  rows.Add("collective_timeout_s", &CommSection::collective_timeout_s, NumberCodec(kSeconds),
           "seconds after which a rank counts as hung");
}

void AddCheckpoint(std::vector<Field>& table) {
  SectionRows rows(
      table, "checkpoint.", [](auto& config) -> auto& { return config.checkpoint; });
  rows.Add("resume", &CheckpointSection::resume, ResumeCodec{},
           "where to go on; auto: from the newest valid checkpoint of output_dir, if any");
  rows.Add("save_steps", &CheckpointSection::save_steps, IntegerCodec(kCountOrZero),
           "steps between checkpoints; 0: none by steps. The last step is always saved");
  rows.Add("save_interval_minutes", &CheckpointSection::save_interval_minutes,
           NumberCodec({.min = 0, .max = 525600}), "minutes between checkpoints; 0: none by time");
  rows.Add("save_total_limit", &CheckpointSection::save_total_limit, NullOr(IntegerCodec(kCount)),
           "checkpoints kept; null: all");
  rows.Add("async_save", &CheckpointSection::async_save, BooleanCodec{},
           "write while training goes on");
  rows.Add("export_hf", &CheckpointSection::export_hf, EnumCodec<ExportHf>{},
           "end: the finished model as a Hugging Face folder, hf/");
}

void AddResilience(std::vector<Field>& table) {
  SectionRows rows(
      table, "resilience.", [](auto& config) -> auto& { return config.resilience; });
  rows.Add("on_nonfinite", &ResilienceSection::on_nonfinite, EnumCodec<OnNonfinite>{},
           "what to do with a step whose loss or gradient is not finite");
  rows.Add("max_skipped_steps", &ResilienceSection::max_skipped_steps, IntegerCodec(kCountOrZero),
           "steps that skip may leave out before the run stops");
  rows.Add("max_restarts", &ResilienceSection::max_restarts, IntegerCodec(kCountOrZero),
           "times the launcher starts again after a rank died or hung");
  rows.Add("heartbeat_s", &ResilienceSection::heartbeat_s, NumberCodec(kSeconds),
           "seconds between signs of life of a rank");
}

void AddEvalLoggingLaunch(std::vector<Field>& table) {
  SectionRows eval(
      table, "eval.", [](auto& config) -> auto& { return config.eval; });
  eval.Add("eval_steps", &EvalSection::eval_steps, IntegerCodec(kCountOrZero),
           "steps between evaluations; 0: only before the first and after the last step");
  eval.Add("eval_max_batches", &EvalSection::eval_max_batches, NullOr(IntegerCodec(kCount)),
           "batches per evaluation at most; null: all");
  SectionRows logging(
      table, "logging.", [](auto& config) -> auto& { return config.logging; });
  logging.Add("logging_steps", &LoggingSection::logging_steps, IntegerCodec(kCount),
              "steps between records of the log");
  logging.Add("fp8_amax_steps", &LoggingSection::fp8_amax_steps, IntegerCodec(kCountOrZero),
              "FP8: the first logged step of so many also has the amax of each tensor; 0: never");
  logging.Add("report_to", &LoggingSection::report_to, ListCodec(EnumCodec<ReportTarget>{}),
              "formats of the log");
  logging.Add("trace_steps", &LoggingSection::trace_steps, ListCodec(IntegerCodec(kCount)),
              "steps to record a timeline of, in trace/ of the run's folder");
  SectionRows launch(
      table, "launch.", [](auto& config) -> auto& { return config.launch; });
  launch.Add("nproc_per_node", &LaunchSection::nproc_per_node,
             AutoOr(IntegerCodec({.min = 1, .max = 65536})),
             "ranks per machine; auto: one per GPU, one on the CPU");
  launch.Add("hostfile", &LaunchSection::hostfile, NullOr(TextCodec("a file")),
             "machines to run on");
  launch.Add("bind_cores", &LaunchSection::bind_cores, AutoOr(BooleanCodec{}),
             "bind ranks to cores; auto: where there are as many cores as ranks");
}

}  // namespace

std::vector<Field> MakeFields() {
  std::vector<Field> table;
  AddTopLevel(table);
  AddModel(table);
  AddData(table);
  AddTraining(table);
  AddOptimizer(table);
  AddLrScheduler(table);
  AddPrecision(table);
  AddParallel(table);
  AddMemory(table);
  AddComm(table);
  AddCheckpoint(table);
  AddResilience(table);
  AddEvalLoggingLaunch(table);
  return table;
}

}  // namespace hearth
