// The interpreter of a schedule: enqueues its tasks on streams, in order, and waits for nothing but
// the end of the step.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"
#include "runtime/data/batch.h"
#include "runtime/layers/head.h"
#include "runtime/layers/layer_types.h"
#include "runtime/optimizer/host_optimizer.h"
#include "runtime/plan/schedule.h"
#include "runtime/state/host_transfer.h"
#include "runtime/state/stores.h"
#include "runtime/train/task_timer.h"

namespace hearth {

// What a step needs from outside.
struct StepInput {
  // At most as many micro-batches as the plan's; null: what Stage took. Copied by the call.
  const StepBatch* batch = nullptr;
  int64_t step = 0;     // training: from 1, and the version its update gives weights
  int64_t targets = 0;  // of all ranks; > 0
  AdamwHyper hyper;     // training
  std::optional<float> gradient_scale;  // instead of 1 / targets
  bool timed = false;                   // training, with ExecutorOptions::times_tasks
  bool wants_amax = false;              // training: StepResult::fp8_amax; the same on every rank
};

struct StepResult {
  double loss_sum = 0;  // over the targets of all ranks; NaN when not representable
  float grad_norm = 0;  // training
  // Training: not finite, nothing was updated. Under Plan::early_updates some units may have been,
  // and the executor can only be destroyed.
  bool skipped = false;
  // With verified FP8 scales: tensors of all ranks and micro-batches that were quantised twice.
  int64_t fp8_repairs = 0;
  std::vector<TaskTime> times;  // of a timed step, by task of schedule(Phase::kTrain)
  // Where asked for, under FP8: the largest finite magnitudes of all ranks and micro-batches that
  // were quantised, by layer and BlockScale.
  std::vector<float> fp8_amax;
  LinkBytes link;  // that were copied between this rank's arenas on the device and on the host
};

struct ExecutorOptions {
  int host_threads = 1;  // of the host optimizer, and of what fills host memory
  std::chrono::milliseconds step_timeout{std::chrono::hours(24)};
  bool times_tasks = false;  // steps may be timed
  // Of the ranks with this one's number in every box, box by box, where the plan has several;
  // outlives the executor.
  Communicator* network = nullptr;
};

// Owns the memory of a rank. The backend, communicator (of the box), plan and spec must outlive it.
// Used by one thread; after an exception it can only be destroyed.
class Executor {
 public:
  Executor(KernelBackend& backend, Communicator& communicator, const Plan& plan,
           const ModelSpec& spec, int rank, const ExecutorOptions& options);
  ~Executor();

  // Master weights and moments, for whoever fills or saves them between steps. The host does not
  // touch device memory: it goes through transfer().
  const RankMemory& memory() const { return memory_; }
  OptimizerStore& optimizer() { return optimizer_; }
  GradientStore& gradients() { return gradients_; }
  const HostTransfer& transfer() const { return transfer_; }
  int host_threads() const { return options_.host_threads; }
  // What verified FP8 scales follow from, by layer and BlockScale: the largest magnitudes of the
  // last step that was not skipped, of all ranks. Empty without such a step and without such
  // scales. Blocks; between steps.
  std::vector<float> AmaxHistory() const;
  // Goes on with the history of another run, or none. CheckError when it is not as long as this
  // run's would be, or not finite.
  void RestoreAmaxHistory(const std::vector<float>& history);

  // Makes the working weights from the master weights, as the update of `step` would have left
  // them.
  void Publish(int64_t step);
  // Whatever a backend prepares at an op's first use is there afterwards: these run training on a
  // micro-batch of made-up tokens, with the weights of `step`, and change nothing but gradients.
  // Weights for the next, where ranks keep shards of them. Collective.
  void LoadFirstBlocks();
  // Forward and backward of this rank alone, with gradients as they are in training. Where it has
  // only shards of a block, the rest is what LoadFirstBlocks left.
  void WarmUpAlone(int64_t step);
  // A whole step, with gradients that are not finite. Collective.
  void WarmUp(int64_t step);
  // Takes the batch of the next step without one of its own; a step may be under way.
  void Stage(const StepBatch& batch);
  StepResult Train(const StepInput& input);
  // Train in two halves: the host may do other things while the device works, but nothing with this
  // executor other than Stage.
  void StartTraining(const StepInput& input) { Start(Prepare(Phase::kTrain), input); }
  StepResult FinishTraining() { return Finish(); }
  // Does what Train has left to the next step; then the state contains every step. Everything but
  // Train needs it: a CheckError where it is missing. Collective.
  void Drain();
  bool is_drained() const { return !pending_; }
  // Forward and backward; afterwards gradients() holds the sums over all ranks, of each unit when
  // it is loaded, which may cost another one its place. Collective.
  StepResult ComputeGradients(const StepInput& input);
  void LoadGradients(int unit);
  // With the weights of input.step.
  StepResult Evaluate(const StepInput& input);
  // Forward of one micro-batch with the weights of `step`: row i of the result is position i's
  // logits, [rows, vocab] f32. Collective where ranks keep shards of the weights.
  std::vector<float> Logits(const MicroBatch& batch, int64_t step, int64_t first_row, int64_t rows);

  const Schedule& schedule(Phase phase) { return Prepare(phase).schedule; }
  // Called after each task is enqueued, for progress; may be empty.
  void set_task_hook(std::function<void(const Task&)> hook) { task_hook_ = std::move(hook); }

 private:
  // Who waits for a task: other device streams by its event, the host optimizer by its signal.
  struct Awaited {
    bool by_streams = false;
    bool by_host = false;
  };
  struct PreparedSchedule {
    Schedule schedule;
    std::vector<Awaited> awaited;  // by task
    int64_t micro_batches = 0;
    bool carries = false;        // leaves updates to the next step
    bool early_updates = false;  // does others before it knows the norm
  };
  // The step whose carried updates are still to be done.
  struct PendingUpdates {
    int64_t step = 0;
    AdamwHyper hyper;
    int64_t micro_batches = 0;
  };

  PreparedSchedule MakePrepared(Phase phase, const Plan& plan);
  const PreparedSchedule& Prepare(Phase phase);
  // The timer of the step under way; null where it is not timed.
  TaskTimer* Timer() { return input_.timed ? timer_.get() : nullptr; }
  StepResult Run(Phase phase, const StepInput& input);
  void Start(const PreparedSchedule& prepared, const StepInput& input);
  StepResult Finish();
  // The host's half of the words of a step.
  TensorView HostWords() const;
  void Enqueue(const PreparedSchedule& prepared, const Task& task);
  void EnqueueOnHostOptimizer(const Schedule& schedule, const Task& task);
  // A carried task without a step that left it anything.
  bool IsIdle(const Task& task) const { return task.step_offset != 0 && !pending_; }
  // The step that a task belongs to, and what its update takes from it.
  int64_t StepOf(const Task& task) const;
  // On the host optimizer's thread.
  void RunOnHost(const Task& task);
  void Dispatch(const Task& task, Stream& stream);
  // Every copy that may cross the link goes through here, to be counted.
  void Copy(Stream& stream, const CopyArgs& args);
  void Synchronize();

  // batch_tasks.cpp
  StepResult RunMadeUp(Phase phase, const Plan& plan, const StepInput& input);
  void TakeBatch(const StepInput& input);
  void FillHostBatch(const StepBatch& batch, int slot);
  void FillHostMicroBatch(const MicroBatch& batch, int slot, int micro_batch);
  void LoadBatch(Stream& stream);
  // Of the batch on the device.
  TensorView BatchView(int micro_batch, int64_t BatchLayout::*field) const;

  void BeginStep(Stream& stream);
  void EndStep(Stream& stream);

  // forward_tasks.cpp
  LayerContext Context(Stream& stream) const;
  SequenceViews Sequences(int micro_batch) const;
  BlockWeights WeightsOf(int unit) const;
  BlockGradients GradientsOf(int unit) const;
  BlockViews ViewsOf(int layer, int micro_batch, Pass pass) const;
  HeadWeights HeadWeightsOf() const;
  // What forward needs of the head's own buffers.
  HeadViews HeadViewsOf(int micro_batch) const;
  int64_t ForwardNumber(int micro_batch) const;
  // Versions of what lies between layers: a layer's input, and its gradient.
  int64_t InputVersion(int layer, int micro_batch) const;
  int64_t InputGradientVersion(int layer, int micro_batch) const;
  int LayerOf(const Task& task) const;
  void Forward(const Task& task, Stream& stream);
  void Head(const Task& task, Stream& stream);
  void EmbeddingForward(const Task& task, Stream& stream);
  void MoveInput(const Task& task, Stream& stream);
  void StoreInput(const Task& task, Stream& stream);
  void FetchInput(const Task& task, Stream& stream);
  void Recompute(const Task& task, Stream& stream);
  void EmbeddingBackward(const Task& task, Stream& stream);
  void Backward(const Task& task, Stream& stream);
  std::vector<Lease> LeaseHeadGradients(int micro_batch);

  // scale_tasks.cpp
  ScaleMode FirstScales() const;
  bool KeepsAmaxHistory() const;
  bool CollectsAmax() const;
  TensorView StepAmax() const;
  TensorView HostAmax() const;
  TensorView HistoryView() const;
  TensorView StepScales() const;
  // Of all layers of a micro-batch.
  TensorView ScaleRecords(int micro_batch) const;
  void BeginScales(int micro_batch, Stream& stream);
  void CollectAmax(int micro_batch, Stream& stream);
  void ReduceStepAmax(Stream& stream);
  void UpdateScales(Stream& stream);

  // network_tasks.cpp
  void ExchangeShards(const Task& task, Stream& stream);
  void ExchangeSums(Stream& stream);
  // Over the boxes, of words in the slab.
  void ExchangeWords(const AllReduceArgs& args, Stream& stream);
  TensorView NetworkArea(DType dtype, int64_t elements) const;

  // gradient_tasks.cpp
  int64_t GradientVersion(int micro_batch) const;
  int64_t FullGradientVersion() const;
  int64_t FullGradientVersion(const Task& task) const;
  void ZeroGradients(const Task& task, Stream& stream);
  void MoveGradients(const Task& task, Stream& stream);
  void FetchGradients(const Task& task, Stream& stream);
  void StoreGradients(const Task& task, Stream& stream);
  void ReduceGradients(const Task& task, Stream& stream);
  void GatherGradients(const Task& task, Stream& stream);
  void GatherShards(int unit, Stream& stream);
  // The sum over the ranks of the box, or over all boxes, of this rank's shard.
  TensorView SumOverRanks(const Task& task) const;
  void SquareSum(const Task& task, Stream& stream);
  void GradientsToHost(const Task& task, Stream& stream);
  // The reduced gradient of what this rank updates, on the device.
  Lease LeaseUpdatedGradient(const Task& task);
  TensorView UpdatedGradient(const Task& task) const;
  // And on the host, for its optimizer.
  TensorView HostGradient(const Task& task) const;

  // update_tasks.cpp
  void ReduceSums(const Task& task, Stream& stream);
  void Clip(Stream& stream);
  void MoveState(const Task& task, Stream& stream);
  void Update(const Task& task, Stream& stream);
  void UpdateOnHost(const Task& task);
  void MoveWeights(const Task& task, Stream& stream);
  void WeightsToDevice(const Task& task, Stream& stream);
  void CastMaster(const Task& task, Stream& stream);
  void CastMasterOnHost(const Task& task);
  void FetchWeights(const Task& task, Stream& stream);
  void StoreWeights(const Task& task, Stream& stream);
  // From staging to the slot.
  void TakeStagedWeights(const Task& task, Stream& stream);
  // Outside a schedule.
  void LoadWeights(int unit, Stream& stream);
  void ReduceAmax(const Task& task, Stream& stream);
  void QuantizeWeights(const Task& task, Stream& stream);
  void GatherWeights(const Task& task, Stream& stream);
  void TransposeWeights(const Task& task, Stream& stream);
  void QuantizeTiedHead(Stream& stream);
  AdamwArgs UpdateArgs(const Task& task) const;
  bool Quantized(int unit) const;
  // Where an update puts its new weights: staging, or where they stay.
  TensorView NewWeights(const Task& task) const;
  // Where staged weights go from there: [their FP8 part] and [their dense part]. The latter is
  // absent where it goes from staging to the host.
  TensorView NewFp8(const Task& task) const;
  TensorView NewDense(const Task& task) const;
  void StagedAmax(const Task& task, Stream& stream);
  // `amax` by segment of the update, stored by FP8 matrix.
  void StoreHostAmax(const Task& task, const std::vector<float>& amax) const;

  KernelBackend& backend_;
  Communicator& communicator_;
  const Plan& plan_;
  const ModelSpec& spec_;
  const ExecutorOptions options_;
  RankMemory memory_;
  ParameterStore parameters_;
  GradientStore gradients_;
  ActivationStore activations_;
  OptimizerStore optimizer_;

  std::array<std::unique_ptr<Stream>, kStreamCount> streams_;  // none for the host optimizer
  HostTransfer transfer_;
  std::vector<std::unique_ptr<Event>> events_;  // by task
  // Values rise over the whole run: device streams to the host optimizer, and back.
  std::array<std::unique_ptr<HostSignal>, kStreamCount> to_host_optimizer_;
  std::unique_ptr<HostSignal> from_host_optimizer_;
  std::array<uint32_t, kStreamCount> stream_values_{};
  std::vector<uint32_t> task_values_;  // by task: what its completion sets
  std::array<std::unique_ptr<PreparedSchedule>, kPhaseCount> schedules_;
  std::function<void(const Task&)> task_hook_;
  std::unique_ptr<TaskTimer> timer_;  // of the schedule of kTrain, where steps may be timed

  Phase phase_ = Phase::kTrain;  // of the step under way, as are the next two
  int64_t micro_batches_ = 0;
  StepInput input_;
  std::optional<PendingUpdates> pending_;  // changes between steps alone
  bool carries_ = false;                   // of the step under way, as is the next
  bool early_updates_ = false;
  LinkBytes link_;                      // of the step under way
  int64_t weights_version_ = kNothing;  // what a step computes with: the update of the step before
  int64_t forward_count_ = 0;           // forwards before this step, for activation versions
  int batch_slot_ = 0;                  // of the step under way, or the last one
  int staged_slot_ = -1;                // of what Stage took; -1: nothing
  bool failed_ = false;                 // also while a step is under way
  bool amax_known_ = false;             // there is a history to take FP8 scales from

  std::unique_ptr<HostOptimizer> host_optimizer_;  // last: its thread uses the rest
};

}  // namespace hearth
