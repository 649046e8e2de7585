#include "runtime/train/trainer.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "kernels/core/check.h"
#include "kernels/core/log.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/optimizer/lr_schedule.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/train/boxes.h"
#include "runtime/train/device_support.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kStepsRemembered = 100;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void RequireFittingCheckpoint(const Checkpoint& checkpoint, const ResolvedConfig& resolved,
                              const ModelSpec& spec, const Plan& plan) {
  checkpoint.RequireModel(spec);
  RequireStateTypes(resolved, checkpoint);
  const auto amaxes = std::ssize(checkpoint.manifest().info.fp8_amax);
  if (amaxes != 0 && amaxes != spec.config.num_layers * kBlockScaleCount) {
    throw IoError(
        fmt::format("{}: error: fp8_amax has {} numbers, the model {} FP8 scales; use "
                    "another checkpoint",
                    (checkpoint.folder() / kManifestName).string(), amaxes,
                    spec.config.num_layers * kBlockScaleCount));
  }
  const int64_t saved = checkpoint.manifest().info.global_batch_size;
  if (saved == plan.global_batch_size) return;
  resolved.Fail("training.gradient_accumulation_steps",
                fmt::format("{} sequences a step with {} ranks, the checkpoint was trained with "
                            "{}; write global_batch_size: {} instead",
                            plan.global_batch_size, plan.world, saved, saved));
}

// One rank reads the data, all ranks throw.
void RequireSameData(const Checkpoint& checkpoint, const TokenDataset& data, Bootstrap& bootstrap) {
  Bytes refusal;
  if (bootstrap.rank() == 0) {
    try {
      RequireSameShards(checkpoint.manifest().info.shards, data.ShardHashes());
    } catch (const ConfigError& error) {
      const auto text = std::as_bytes(std::span(std::string_view(error.what())));
      refusal.assign(text.begin(), text.end());
    }
  }
  refusal = bootstrap.Broadcast(refusal, 0);
  if (refusal.empty()) return;
  throw ConfigError(std::string(reinterpret_cast<const char*>(refusal.data()), refusal.size()));
}

}  // namespace

Trainer::Trainer(const ResolvedConfig& resolved, const RunEnvironment& environment,
                 std::optional<TrainingRehearsal> rehearsal)
    : environment_(environment),
      rehearsal_(std::move(rehearsal)),
      model_(SetUpModelTogether(resolved, environment)),
      checkpoint_(rehearsal_ ? nullptr : FindCheckpointTogether(resolved, environment)),
      data_(rehearsal_ ? rehearsal_->data : OpenTrainingData(resolved, model_.spec)),
      total_steps_(TotalSteps(
          resolved, GlobalBatchSize(resolved.config.training, environment.bootstrap.world()),
          *data_)),
      stage_(StageOf(resolved.config.precision, total_steps_,
                     checkpoint_ ? checkpoint_->manifest().info.step + 1 : 1)),
      machine_(MeasureMachine(environment)),
      limits_(LimitsOf(resolved.config.memory, machine_)),
      decided_(DecidePlan(
          StageConfig(checkpoint_ ? KeepChoices(resolved, *checkpoint_) : resolved, stage_),
          model_.spec, environment, limits_)),
      resolved_(OfWholeRun(decided_.run.resolved, resolved)),
      config_hash_(ConfigHash(resolved)),
      plan_(decided_.run.plan),
      peaks_(FindDevicePeaks(environment.backend.device().name())) {
  Prepare(resolved);
}

Trainer::~Trainer() = default;

void Trainer::CheckFinish(const ResolvedConfig& given) const {
  if (IsLastStage()) return;
  const DecidedPlan finish =
      DecidePlan(FinishConfig(given, plan_.numeric), model_.spec, environment_, limits_);
  RequireFinishFits(finish.run.resolved, finish.run.plan, model_.spec, limits_);
}

void Trainer::Prepare(const ResolvedConfig& given) {
  environment_.heartbeat.Progress(0, RunPhase::kLoading);
  RequireFp8(resolved_, environment_.backend.device().gpu());
  RequireAttention(resolved_, environment_.backend);
  if (checkpoint_) RequireFittingCheckpoint(*checkpoint_, resolved_, model_.spec, plan_);
  if (checkpoint_) RequireSameData(*checkpoint_, *data_, environment_.bootstrap);
  if (!rehearsal_) {
    RequireEqualData(resolved_, "data.datasets", *data_, environment_);
    eval_data_ = OpenEvaluationData(resolved_, model_.spec);
  }
  if (eval_data_) RequireEqualData(resolved_, "data.eval_datasets", *eval_data_, environment_);
  RequirePlanFits(decided_.run.resolved, plan_, model_.spec, limits_);
  CheckFinish(given);
  Clock::time_point begin = Clock::now();
  executor_ = std::make_unique<Executor>(
      environment_.backend, environment_.communicator, plan_, model_.spec,
      environment_.bootstrap.rank(),
      ExecutorOptions{.host_threads = environment_.host_threads,
                      .times_tasks = !resolved_.config.logging.trace_steps.empty(),
                      .network = environment_.network()});
  // Here and below: a GPU that ranks share allocates for one of them only while none of their
  // streams waits for another rank.
  environment_.bootstrap.Barrier();
  start_seconds_.memory = SecondsSince(begin);
  FillState();
  begin = Clock::now();
  WarmUp();
  start_seconds_.warm_up = SecondsSince(begin);
  executor_->set_task_hook([this](const Task& task) {
    if (task.kind == TaskKind::kHead) {
      environment_.heartbeat.Progress(summary_.steps + 1, RunPhase::kStepping,
                                      environment_.collectives());
    }
  });
  StartLoader();
  if (!rehearsal_) StartSaver();
  environment_.bootstrap.Barrier();
  if (IsRoot()) {
    if (decided_.hardware) {
      predicted_ =
          EstimateStep(plan_, model_.spec, AsMeasured(*decided_.hardware, environment_.backend));
    }
    if (!rehearsal_) WriteRunFiles();
    OpenLogger();
    if (environment_.progress.enabled) PrintStart();
  }
  last_save_ = Clock::now();
}

void Trainer::FillState() {
  const Clock::time_point begin = Clock::now();
  // Drawn weights are drawn everywhere.
  if (checkpoint_ || model_.pretrained) {
    InFirstBox(
        environment_, [this] { environment_.heartbeat.Progress(0, RunPhase::kLoading); },
        [this](const std::function<void()>& tick) { ReadState(tick); });
  } else {
    ReadState([] {});
  }
  CopyStateFromFirstBox(*executor_, environment_);
  start_seconds_.state = SecondsSince(begin);
  executor_->Publish(checkpoint_ ? checkpoint_->manifest().info.step : 0);
  start_seconds_.publish = SecondsSince(begin) - start_seconds_.state;
  if (!checkpoint_) return;
  if (IsRoot()) saved_matmuls_ = checkpoint_->ReadMatmulTable();
  const CheckpointInfo& info = checkpoint_->manifest().info;
  if (plan_.precision.verified_scales) executor_->RestoreAmaxHistory(info.fp8_amax);
  resumed_ = true;
  first_step_ = info.step + 1;
  skipped_steps_ = info.skipped_steps;
  std::error_code error;
  const std::filesystem::path home = std::filesystem::absolute(checkpoint_->folder()).parent_path();
  const bool at_home = std::filesystem::equivalent(home, resolved_.config.output_dir, error);
  if (environment_.bootstrap.Broadcast({std::byte(at_home ? 1 : 0)}, 0).front() == std::byte{1}) {
    saved_step_ = info.step;
  }
  if (IsRoot()) {
    fmt::print(stderr, "hearth: going on from {}\n", checkpoint_->folder().string());
    const std::string change = PrecisionChange(resolved_, *checkpoint_);
    if (!change.empty()) LogWarning(change);
  }
  checkpoint_.reset();
}

void Trainer::ReadState(const std::function<void()>& tick) {
  if (!checkpoint_) {
    return FillMasterWeights(*executor_, FirstWeights(),
                             [watch = WatchWeights(), tick](int64_t done, int64_t all) {
                               watch(done, all);
                               tick();
                             });
  }
  LoadOptimizerState(*checkpoint_, {.optimizer = executor_->optimizer(),
                                    .memory = executor_->memory(),
                                    .transfer = executor_->transfer(),
                                    .threads = environment_.host_threads,
                                    .tick = tick});
}

void Trainer::WarmUp() {
  KernelBackend& backend = environment_.backend;
  if (backend.device().kind() == DeviceType::kCpu) return;  // it prepares nothing
  environment_.heartbeat.Progress(0, RunPhase::kLoading);
  // One rank measures which algorithms are fast, all take its choice, so that all have its bits.
  // Meanwhile nobody waits for it on a device: measuring may need what such a wait holds up.
  const int64_t step = first_step_ - 1;
  executor_->LoadFirstBlocks();
  environment_.bootstrap.Barrier();
  if (IsRoot()) {
    if (!saved_matmuls_.empty()) backend.LoadMatmulTable(saved_matmuls_);
    backend.MeasureMatmuls(true);
    executor_->WarmUpAlone(step);
    backend.MeasureMatmuls(false);
  }
  const std::string mine = backend.MatmulTable();
  const auto bytes = std::as_bytes(std::span(mine));
  const Bytes chosen = environment_.bootstrap.Broadcast(Bytes(bytes.begin(), bytes.end()), 0);
  if (!IsRoot()) {
    backend.LoadMatmulTable({reinterpret_cast<const char*>(chosen.data()), chosen.size()});
    executor_->WarmUpAlone(step);
  }
  environment_.heartbeat.Progress(0, RunPhase::kLoading);
  environment_.bootstrap.Barrier();
  executor_->WarmUp(step);
  for (const std::string& warning : backend.TakeMatmulWarnings()) {
    if (IsRoot()) LogWarning(warning);
  }
}

void Trainer::StartLoader() {
  loader_ = std::make_unique<DataLoader>(
      data_, DataLoaderOptions{.partition = {.global_batch_size = plan_.global_batch_size,
                                             .micro_batch_size = plan_.numeric.micro_batch_size,
                                             .rank = environment_.bootstrap.rank(),
                                             .world_size = plan_.world},
                               .first_step = first_step_ - 1,
                               .last_step = stage_.last_step - 1});
}

void Trainer::StartSaver() {
  const CheckpointSection& checkpoint = resolved_.config.checkpoint;
  saver_ = std::make_unique<CheckpointSaver>(
      CheckpointSaverOptions{.output_dir = resolved_.config.output_dir,
                             .total_limit = checkpoint.save_total_limit,
                             .async = checkpoint.async_save,
                             .progress =
                                 [this] {
                                   environment_.heartbeat.Progress(saving_step_, RunPhase::kSaving,
                                                                   environment_.collectives());
                                 }},
      environment_.bootstrap, executor_->memory(), executor_->optimizer(),
      [this](const TensorView& source, void* destination) {
        executor_->transfer().Download(source, destination);
      });
}

void Trainer::StageNext() {
  const StepBatch batch = loader_->Next();
  executor_->Stage(batch);
  staged_targets_ = batch.target_count;
}

Trainer::StepHeader Trainer::Agree() {
  StepHeader mine{.targets = staged_targets_ ? *staged_targets_ : loader_->WaitNextTargetCount()};
  mine.stop = environment_.stop_requested && environment_.stop_requested() ? 1 : 0;
  const double minutes = resolved_.config.checkpoint.save_interval_minutes;
  mine.written = saver_ && saver_->is_active() && saver_->is_written() ? 1 : 0;
  // One clock decides for all.
  mine.save = saver_ && IsRoot() && minutes > 0 && SecondsSince(last_save_) >= minutes * 60 ? 1 : 0;
  Bytes bytes(sizeof(mine));
  std::memcpy(bytes.data(), &mine, sizeof(mine));
  StepHeader all{.written = 1};
  for (const Bytes& theirs : environment_.bootstrap.AllGather(bytes)) {
    StepHeader header;
    CHECK(theirs.size() == sizeof(header), "a step header of {} bytes", theirs.size());
    std::memcpy(&header, theirs.data(), sizeof(header));
    all.targets += header.targets;
    all.stop |= header.stop;
    all.save |= header.save;
    all.written &= header.written;
  }
  return all;
}

RunSummary Trainer::Run() {
  environment_.backend.device().Seal();
  summary_.steps = first_step_ - 1;
  if (!resumed_) Evaluate(0);
  for (int64_t step = first_step_; step <= stage_.last_step; ++step) {
    const StepHeader header = Agree();
    if (header.written != 0) FinishSave();
    if (header.stop != 0) {
      summary_.end = RunEnd::kStopped;
      break;
    }
    if (header.save != 0) Save(step - 1);
    if (header.targets == 0) {
      SkipEmptyStep(step);
    } else {
      Step(step, header);
    }
    summary_.steps = step;
    if (EvaluationIsDue(step)) Evaluate(step);
    if (SaveIsDue(step)) Save(step);
  }
  Finish(summary_.steps);
  return summary_;
}

void Trainer::SkipEmptyStep(int64_t step) {
  if (!staged_targets_) loader_->Next();
  staged_targets_.reset();  // what is staged next takes its place
  if (IsRoot()) LogWarning(fmt::format("step {} has no target that counts: skipped", step));
}

void Trainer::Step(int64_t step, const StepHeader& header) {
  const Clock::time_point begin = Clock::now();
  if (!staged_targets_) StageNext();
  const OptimizerSection& optimizer = resolved_.config.optimizer;
  const double rate =
      LearningRate(resolved_.config.lr_scheduler, optimizer.learning_rate, step, total_steps_);
  executor_->StartTraining(
      {.step = step,
       .targets = header.targets,
       .hyper = MakeAdamwHyper(static_cast<float>(rate), static_cast<float>(optimizer.adam_beta1),
                               static_cast<float>(optimizer.adam_beta2),
                               static_cast<float>(optimizer.adam_epsilon),
                               static_cast<float>(optimizer.weight_decay),
                               static_cast<uint64_t>(resolved_.config.seed), step),
       .timed = IsTraced(step),
       .wants_amax = LogsAmax(step)});
  // While the device works: the next step can then start as soon as this one has ended.
  staged_targets_.reset();
  if (step < stage_.last_step) StageNext();
  LookAtDevice(step);
  const StepResult result = executor_->FinishTraining();
  const double loss = result.loss_sum / static_cast<double>(header.targets);
  const double seconds = SecondsSince(begin);
  stepping_seconds_ += seconds;
  if (step_seconds_.size() == kStepsRemembered) step_seconds_.erase(step_seconds_.begin());
  step_seconds_.push_back(seconds);
  stepped_tokens_ += plan_.global_batch_size * plan_.sequence_len;
  summary_.last_loss = loss;
  if (IsRoot() && (IsLogged(step) || result.skipped)) LogStep(step, result, loss, seconds);
  if (result.skipped) HandleNonFinite(step, loss, result.grad_norm);
  if (!result.times.empty()) WriteStepTrace(step, result);
  if (rehearsal_) rehearsal_->on_step(step, loss, result);
}

void Trainer::HandleNonFinite(int64_t step, double loss, float grad_norm) {
  ++skipped_steps_;
  const ResilienceSection& resilience = resolved_.config.resilience;
  const std::string what =
      fmt::format("step {}: loss {} and gradient norm {} are not finite", step, loss, grad_norm);
  if (resilience.on_nonfinite == OnNonfinite::kStop) {
    throw DeviceError(fmt::format(
        "{}; {}. Lower the learning rate, or set resilience.on_nonfinite: skip", what,
        plan_.early_updates ? "the last checkpoint stands" : "the weights were left as they are"));
  }
  if (skipped_steps_ > resilience.max_skipped_steps) {
    throw DeviceError(fmt::format("{}; {} steps were skipped, resilience.max_skipped_steps is {}",
                                  what, skipped_steps_, resilience.max_skipped_steps));
  }
  if (IsRoot()) LogWarning(what + ": skipped");
}

bool Trainer::EvaluationIsDue(int64_t step) const {
  const int64_t every = resolved_.config.eval.eval_steps;
  return step == total_steps_ || (every > 0 && step % every == 0);
}

void Trainer::Evaluate(int64_t step) {
  if (!eval_data_) return;
  executor_->Drain();
  const BatchPartition partition{.global_batch_size = plan_.global_batch_size,
                                 .micro_batch_size = plan_.numeric.micro_batch_size,
                                 .rank = environment_.bootstrap.rank(),
                                 .world_size = plan_.world};
  const int64_t batches = EvaluationBatchCount(
      *eval_data_, partition,
      resolved_.config.eval.eval_max_batches.value_or(std::numeric_limits<int64_t>::max()));
  double loss_sum = 0;
  int64_t targets = 0;
  for (int64_t i = 0; i < batches; ++i) {
    environment_.heartbeat.Progress(step, RunPhase::kEvaluating, environment_.collectives());
    const StepBatch batch = BuildEvaluationBatch(*eval_data_, partition, i);
    loss_sum += executor_->Evaluate({.batch = &batch, .step = step}).loss_sum;
    targets += batch.target_count;
  }
  Bytes mine(sizeof(targets));
  std::memcpy(mine.data(), &targets, sizeof(targets));
  int64_t all_targets = 0;
  for (const Bytes& theirs : environment_.bootstrap.AllGather(mine)) {
    std::memcpy(&targets, theirs.data(), sizeof(targets));
    all_targets += targets;
  }
  if (all_targets == 0) return;
  const double loss = loss_sum / static_cast<double>(all_targets);
  summary_.eval_loss = loss;
  if (!IsRoot()) return;
  StepRecord record{.step = step};
  record.Set("eval/loss", loss);
  logger_->Log(record);
}

bool Trainer::SaveIsDue(int64_t step) const {
  if (!saver_) return false;
  const int64_t every = resolved_.config.checkpoint.save_steps;
  return step == total_steps_ || (every > 0 && step % every == 0);
}

CheckpointInfo Trainer::MakeInfo(int64_t step) const {
  CHECK(executor_->is_drained(), "step {} is saved before all of its updates are done", step);
  const RunConfig& config = resolved_.config;
  CheckpointInfo info{.hearth_version = environment_.version,
                      .step = step,
                      .skipped_steps = skipped_steps_,
                      .world = plan_.world,
                      .seed = config.seed,
                      .data_seed = config.data.data_seed,
                      .sequence_len = plan_.sequence_len,
                      .global_batch_size = plan_.global_batch_size,
                      .numeric = plan_.numeric,
                      .types = plan_.state_types,
                      .config_hash = config_hash_};
  if (model_.loaded.hf_folder) {
    info.model_folder = std::filesystem::absolute(*model_.loaded.hf_folder).string();
  }
  info.fp8_amax = executor_->AmaxHistory();
  info.precision = PrecisionOf(resolved_);
  if (IsRoot()) info.shards = data_->ShardHashes();
  return info;
}

void Trainer::Save(int64_t step) {
  FinishSave();
  if (step == saved_step_) return;
  saving_step_ = step;
  environment_.heartbeat.Progress(step, RunPhase::kSaving, environment_.collectives());
  executor_->Drain();
  saver_->Start(MakeInfo(step), IsRoot() ? environment_.backend.MatmulTable() : "");
  if (!resolved_.config.checkpoint.async_save) FinishSave();
  last_save_ = Clock::now();
}

void Trainer::FinishSave() {
  if (!saver_ || !saver_->is_active()) return;
  environment_.heartbeat.Progress(saving_step_, RunPhase::kSaving, environment_.collectives());
  // What the log says up to this step has to outlive whatever the checkpoint outlives.
  if (logger_) logger_->Flush();
  save_error_ = saver_->Finish();
  if (save_error_.empty()) {
    saved_step_ = saving_step_;
  } else if (IsRoot()) {
    LogWarning(
        fmt::format("step {} could not be saved, the run goes on: {}", saving_step_, save_error_));
  }
}

void Trainer::RequireSaved(int64_t step) {
  Save(step);
  FinishSave();
  if (saved_step_ != step) throw IoError(save_error_);
}

void Trainer::Finish(int64_t step) {
  executor_->Drain();
  if (saver_) RequireSaved(step);
  const bool turns = summary_.end == RunEnd::kFinished && !IsLastStage();
  if (turns) summary_.end = RunEnd::kTurnsToBf16;
  if (summary_.end == RunEnd::kFinished) RemoveStageCheckpoint();
  if (!rehearsal_ && summary_.end == RunEnd::kFinished &&
      resolved_.config.checkpoint.export_hf == ExportHf::kEnd) {
    const auto progress = [&] {
      environment_.heartbeat.Progress(step, RunPhase::kExporting, environment_.collectives());
    };
    progress();
    InFirstBox(environment_, progress, [this](const std::function<void()>& tick) {
      Bootstrap& box = environment_.links ? environment_.links->box : environment_.bootstrap;
      const std::filesystem::path folder = resolved_.config.output_dir;
      ExportWeights(*executor_, box, model_, {.folder = folder / "hf", .tick = tick});
    });
  }
  if (stepping_seconds_ > 0) {
    summary_.tokens_per_second = static_cast<double>(stepped_tokens_) / stepping_seconds_;
  }
  if (!logger_) return;
  if (!rehearsal_) logger_->WriteLossSvg();
  logger_->EndProgressLine();
  if (rehearsal_) return;
  logger_->Flush();
  CompletePlanFile();
  if (!environment_.progress.enabled) return;
  fmt::print("{}", turns ? DescribeStage() : DescribeEnd(executor_->memory(), MakeEnd()));
}

}  // namespace hearth
