#include "runtime/train/executor.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>

#include "kernels/core/check.h"
#include "kernels/core/parts.h"
#include "runtime/layers/block.h"

namespace hearth {

namespace {

// kNetwork, the last, only where there are several boxes.
constexpr std::array<StreamId, 6> kDeviceStreams = {StreamId::kCompute,  StreamId::kComm,
                                                    StreamId::kToDevice, StreamId::kToHost,
                                                    StreamId::kInputs,   StreamId::kNetwork};

std::array<std::unique_ptr<Stream>, kStreamCount> MakeStreams(Device& device, const Plan& plan) {
  std::array<std::unique_ptr<Stream>, kStreamCount> streams;
  for (StreamId id : kDeviceStreams) {
    if (id == StreamId::kNetwork && plan.boxes == 1) continue;
    streams[static_cast<size_t>(id)] = device.CreateStream(Name(id));
  }
  return streams;
}

}  // namespace

Executor::Executor(KernelBackend& backend, Communicator& communicator, const Plan& plan,
                   const ModelSpec& spec, int rank, const ExecutorOptions& options)
    : backend_(backend),
      communicator_(communicator),
      plan_(plan),
      spec_(spec),
      options_(options),
      memory_(backend.device(), plan, spec, rank),
      parameters_(memory_),
      gradients_(memory_),
      activations_(memory_),
      optimizer_(memory_),
      streams_(MakeStreams(backend.device(), plan)),
      transfer_(backend, memory_,
                {streams_[static_cast<size_t>(StreamId::kToDevice)].get(),
                 streams_[static_cast<size_t>(StreamId::kToHost)].get()},
                options.step_timeout) {
  Device& device = backend_.device();
  for (StreamId id : kDeviceStreams) {
    to_host_optimizer_[static_cast<size_t>(id)] = device.CreateHostSignal();
  }
  from_host_optimizer_ = device.CreateHostSignal();
  communicator_.RegisterSlab(memory_.slab.Bytes());
  CHECK(plan.boxes == (options.network != nullptr ? options.network->world() : 1) &&
            plan.RanksPerBox() == communicator.world(),
        "a plan of {} boxes of {} ranks, not what the communicators have", plan.boxes,
        plan.RanksPerBox());
  if (options.network != nullptr) {
    options.network->RegisterSlab(NetworkArea(DType::kU8, memory_.layout.network_bytes));
  }
  // Padding stays zero from here on: nothing ever writes it.
  Stream& compute = *streams_[static_cast<size_t>(StreamId::kCompute)];
  for (const Arena* arena : {&memory_.slab, &memory_.arena}) {
    if (arena->bytes() > 0) backend_.Zero(compute, {.destination = arena->Bytes()});
  }
  // Pinned memory begins as zeros. Without a device it is not there before its first use, and that
  // use is made here; the copy of a save, which is last and large, may never have one.
  if (device.kind() == DeviceType::kCpu) {
    const MemoryLayout& layout = memory_.layout;
    const int64_t host_bytes = layout.save_copy_bytes > 0 ? layout.save_copy : layout.host_bytes;
    TouchPages(memory_.host.Bytes().data(), host_bytes, options_.host_threads);
  }
  compute.Synchronize(options_.step_timeout);
  const std::vector<float> rope = RopeTable(spec_.config, plan_.sequence_len);
  transfer_.Upload(rope.data(), activations_.CosSin());
  if (plan_.UpdatesOnHost()) {
    host_optimizer_ = std::make_unique<HostOptimizer>(options_.host_threads, options_.step_timeout);
  }
}

Executor::~Executor() {
  // What is still queued uses the memory that goes away below, and so may the other ranks.
  for (const auto& stream : streams_) {
    if (!stream || failed_) continue;
    try {
      stream->Synchronize(options_.step_timeout);
    } catch (const std::exception&) {
      // Whoever waited for the step has been told already.
    }
  }
  if (failed_) return;
  communicator_.ReleaseSlab();
  if (options_.network != nullptr) options_.network->ReleaseSlab();
}

Executor::PreparedSchedule Executor::MakePrepared(Phase phase, const Plan& plan) {
  PreparedSchedule prepared{.schedule = BuildSchedule(phase, plan, spec_, memory_.rank),
                            .awaited = {},
                            .micro_batches = plan.micro_batches,
                            .early_updates = phase == Phase::kTrain && plan.early_updates};
  const std::vector<Task>& tasks = prepared.schedule.tasks;
  prepared.awaited.resize(tasks.size());
  for (const Task& task : tasks) {
    prepared.carries = prepared.carries || (phase == Phase::kTrain && task.step_offset != 0);
    for (int wait : task.waits) {
      Awaited& awaited = prepared.awaited[static_cast<size_t>(wait)];
      (task.stream == StreamId::kHostOptimizer ? awaited.by_host : awaited.by_streams) = true;
    }
  }
  while (events_.size() < tasks.size()) events_.push_back(backend_.device().CreateEvent());
  task_values_.resize(std::max(task_values_.size(), tasks.size()));
  return prepared;
}

const Executor::PreparedSchedule& Executor::Prepare(Phase phase) {
  std::unique_ptr<PreparedSchedule>& prepared = schedules_[static_cast<size_t>(phase)];
  if (prepared) return *prepared;
  prepared = std::make_unique<PreparedSchedule>(MakePrepared(phase, plan_));
  if (phase == Phase::kTrain && options_.times_tasks) {
    timer_ = std::make_unique<TaskTimer>(backend_.device(), prepared->schedule.tasks.size());
  }
  return *prepared;
}

void Executor::Publish(int64_t step) { Run(Phase::kPublish, {.step = step}); }
StepResult Executor::Train(const StepInput& input) { return Run(Phase::kTrain, input); }
StepResult Executor::ComputeGradients(const StepInput& input) {
  return Run(Phase::kGradients, input);
}
StepResult Executor::Evaluate(const StepInput& input) { return Run(Phase::kEvaluate, input); }

void Executor::Drain() {
  if (pending_) Run(Phase::kDrain, {.step = pending_->step});
}

StepResult Executor::Run(Phase phase, const StepInput& input) {
  Start(Prepare(phase), input);
  return Finish();
}

TensorView Executor::HostWords() const {
  return memory_.host.View(memory_.layout.words.host, DType::kU8, {sizeof(StepWords)});
}

void Executor::Start(const PreparedSchedule& prepared, const StepInput& input) {
  CHECK(!failed_, "an executor that failed, or whose step has not been finished, is used again");
  phase_ = prepared.schedule.phase;
  CHECK(!pending_ || phase_ == Phase::kTrain || phase_ == Phase::kDrain,
        "{} with updates of step {} to be done", Name(phase_), pending_->step);
  failed_ = true;  // until the end is reached
  early_updates_ = prepared.early_updates;
  carries_ = prepared.carries;
  micro_batches_ = prepared.micro_batches;
  link_ = {};
  input_ = input;
  if (phase_ != Phase::kPublish && phase_ != Phase::kDrain) TakeBatch(input);
  input_.batch = nullptr;  // only lent
  StepWords words;
  std::memcpy(&words, HostWords().data(), sizeof(words));
  // Carried updates of the host optimizer go by the clip factor of their own step. Nothing has to
  // be known for early ones.
  words = {.clip_factor = early_updates_ ? 1.0f : words.clip_factor,
           .skip = early_updates_ ? 0 : words.skip};
  words.gradient_scale = input.gradient_scale.value_or(
      input.targets > 0 ? static_cast<float>(1.0 / static_cast<double>(input.targets)) : 0.0f);
  std::memcpy(HostWords().data(), &words, sizeof(words));
  if (input.timed) {
    CHECK(&prepared == schedules_[static_cast<size_t>(Phase::kTrain)].get() && timer_,
          "a step of {} tasks is to be timed, and was not prepared for it",
          prepared.schedule.tasks.size());
    timer_->Start(*streams_[static_cast<size_t>(StreamId::kCompute)], options_.step_timeout);
  }
  for (const Task& task : prepared.schedule.tasks) Enqueue(prepared, task);
}

StepResult Executor::Finish() {
  CHECK(failed_, "the end of a step that was not started");
  Synchronize();
  if (phase_ == Phase::kTrain || phase_ == Phase::kPublish) weights_version_ = input_.step;
  forward_count_ += plan_.micro_batches;
  StepWords words;
  std::memcpy(&words, HostWords().data(), sizeof(words));
  const bool skipped = phase_ == Phase::kTrain && words.skip != 0;
  failed_ = skipped && early_updates_;
  if (phase_ == Phase::kTrain || phase_ == Phase::kDrain) pending_.reset();
  if (carries_) {
    pending_ = {.step = input_.step, .hyper = input_.hyper, .micro_batches = micro_batches_};
  }
  if (KeepsAmaxHistory() && !skipped) amax_known_ = true;
  FixedPointSum losses;
  for (int i = 0; i < 4; ++i) {
    losses.limbs[static_cast<size_t>(i)] = words.sums[kFixedPointWords + i];
  }
  losses.not_representable = words.sums[kFixedPointWords + 4];
  StepResult result{.loss_sum = ToDouble(losses),
                    .grad_norm = words.norm,
                    .skipped = skipped,
                    .fp8_repairs = words.sums[kStepSumWords - 1],
                    .times = Timer() != nullptr ? Timer()->Times() : std::vector<TaskTime>{},
                    .fp8_amax = {},
                    .link = link_};
  if (CollectsAmax() && input_.wants_amax) {
    const TensorView amax = HostAmax();
    result.fp8_amax.assign(amax.as<float>(), amax.as<float>() + amax.elements());
  }
  return result;
}

void Executor::Copy(Stream& stream, const CopyArgs& args) {
  const TensorView host = memory_.host.Bytes();
  const auto is_on_host = [&](const TensorView& view) {
    const auto* begin = static_cast<const std::byte*>(host.data());
    const auto* data = static_cast<const std::byte*>(view.data());
    return std::less_equal<>()(begin, data) && std::less<>()(data, begin + host.bytes());
  };
  const bool from_host = is_on_host(args.source), to_host = is_on_host(args.destination);
  if (from_host && !to_host) link_.to_device += args.source.bytes();
  if (to_host && !from_host) link_.to_host += args.source.bytes();
  backend_.Copy(stream, args);
}

void Executor::Synchronize() {
  // The end task waits for all streams; the others are asked for the errors they keep.
  std::exception_ptr error;
  for (StreamId id : kDeviceStreams) {
    if (!streams_[static_cast<size_t>(id)]) continue;
    try {
      streams_[static_cast<size_t>(id)]->Synchronize(options_.step_timeout);
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

void Executor::Enqueue(const PreparedSchedule& prepared, const Task& task) {
  const auto id = static_cast<size_t>(task.id);
  if (task.stream == StreamId::kHostOptimizer) {
    EnqueueOnHostOptimizer(prepared.schedule, task);
  } else {
    Stream& stream = *streams_[static_cast<size_t>(task.stream)];
    for (int wait : task.waits) {
      const auto other = static_cast<size_t>(wait);
      if (prepared.schedule.tasks[other].stream == StreamId::kHostOptimizer) {
        stream.Wait(*from_host_optimizer_, task_values_[other]);
      } else {
        stream.Wait(*events_[other]);
      }
    }
    if (Timer() != nullptr) Timer()->Begin(task.id, stream);
    if (!IsIdle(task)) Dispatch(task, stream);
    if (Timer() != nullptr) Timer()->End(task.id, stream);
    const Awaited& awaited = prepared.awaited[id];
    if (awaited.by_streams) stream.Record(*events_[id]);
    if (awaited.by_host) {
      const auto s = static_cast<size_t>(task.stream);
      task_values_[id] = ++stream_values_[s];
      stream.Signal(*to_host_optimizer_[s], task_values_[id]);
    }
  }
  if (task_hook_) task_hook_(task);
}

void Executor::EnqueueOnHostOptimizer(const Schedule& schedule, const Task& task) {
  if (task.kind == TaskKind::kUpdate && gradients_.places().OnHost(task.unit) && !IsIdle(task)) {
    gradients_.ReadHost(task.unit, FullGradientVersion(task));  // is there
  }
  std::vector<SignalWait> waits;
  for (int wait : task.waits) {
    const auto other = static_cast<size_t>(wait);
    const auto stream = static_cast<size_t>(schedule.tasks[other].stream);
    waits.push_back({to_host_optimizer_[stream].get(), task_values_[other]});
  }
  if (UpdatesWeightsAtHome(plan_, spec_, task.unit) && !IsIdle(task)) {
    const Lease home = parameters_.Write(task.unit, StepOf(task));
  }
  const uint32_t done = ++stream_values_[static_cast<size_t>(StreamId::kHostOptimizer)];
  task_values_[static_cast<size_t>(task.id)] = done;
  const Task* borrowed = &task;  // schedules live as long as the executor
  host_optimizer_->worker().Enqueue(
      std::move(waits), [this, borrowed] { RunOnHost(*borrowed); }, *from_host_optimizer_, done);
}

void Executor::RunOnHost(const Task& task) {
  if (Timer() != nullptr) Timer()->BeginOnHost(task.id);
  if (IsIdle(task)) {
    // Only its signal is waited for.
  } else if (task.kind == TaskKind::kUpdate) {
    UpdateOnHost(task);
  } else {
    CastMasterOnHost(task);
  }
  if (Timer() != nullptr) Timer()->EndOnHost(task.id);
}

void Executor::Dispatch(const Task& task, Stream& stream) {
  switch (task.kind) {
    case TaskKind::kBeginStep:
      return BeginStep(stream);
    case TaskKind::kLoadBatch:
      return LoadBatch(stream);
    case TaskKind::kZeroGradients:
      return ZeroGradients(task, stream);
    case TaskKind::kForward:
      return Forward(task, stream);
    case TaskKind::kHead:
      return Head(task, stream);
    case TaskKind::kStoreInput:
    case TaskKind::kFetchInput:
      return MoveInput(task, stream);
    case TaskKind::kCollectAmax:
      return CollectAmax(task.micro_batch, stream);
    case TaskKind::kRecompute:
      return Recompute(task, stream);
    case TaskKind::kBackward:
      return Backward(task, stream);
    case TaskKind::kReduceGradients:
    case TaskKind::kExchangeShards:
      return ReduceGradients(task, stream);
    case TaskKind::kSquareSum:
      return SquareSum(task, stream);
    case TaskKind::kReduceSums:
    case TaskKind::kExchangeSums:
      return ReduceSums(task, stream);
    case TaskKind::kClip:
      return Clip(stream);
    case TaskKind::kGatherGradients:
      return GatherGradients(task, stream);
    case TaskKind::kFetchGradients:
    case TaskKind::kStoreGradients:
    case TaskKind::kGradientsToHost:
      return MoveGradients(task, stream);
    case TaskKind::kFetchState:
    case TaskKind::kStoreState:
      return MoveState(task, stream);
    case TaskKind::kUpdate:
      return Update(task, stream);
    case TaskKind::kCastMaster:
      return CastMaster(task, stream);
    case TaskKind::kFetchWeights:
    case TaskKind::kStoreWeights:
    case TaskKind::kWeightsToDevice:
      return MoveWeights(task, stream);
    case TaskKind::kReduceAmax:
      return ReduceAmax(task, stream);
    case TaskKind::kQuantizeWeights:
      return QuantizeWeights(task, stream);
    case TaskKind::kGatherWeights:
      return GatherWeights(task, stream);
    case TaskKind::kTransposeWeights:
      return TransposeWeights(task, stream);
    case TaskKind::kEndStep:
      return EndStep(stream);
  }
}

void Executor::BeginStep(Stream& stream) {
  const WordLayout& words = memory_.layout.words;
  backend_.Zero(stream,
                {.destination = memory_.slab.View(words.sums, DType::kI64, {kStepSumWords})});
  if (CollectsAmax()) backend_.Zero(stream, {.destination = StepAmax()});
  Copy(stream, {.source = memory_.host.View(
                    words.host + static_cast<int64_t>(offsetof(StepWords, gradient_scale)),
                    DType::kF32, {1}),
                .destination = memory_.arena.View(words.gradient_scale, DType::kF32, {1})});
  if (!early_updates_) return;
  Copy(stream,
       {.source = memory_.host.View(
            words.host + static_cast<int64_t>(offsetof(StepWords, clip_factor)), DType::kI32, {2}),
        .destination = memory_.arena.View(words.control, DType::kI32, {2})});
}

void Executor::EndStep(Stream& stream) {
  const WordLayout& words = memory_.layout.words;
  const auto host = [&](size_t offset, DType dtype, int64_t count) {
    return memory_.host.View(words.host + static_cast<int64_t>(offset), dtype, {count});
  };
  Copy(stream, {.source = memory_.slab.View(words.sums, DType::kI64, {kStepSumWords}),
                .destination = host(offsetof(StepWords, sums), DType::kI64, kStepSumWords)});
  if (phase_ != Phase::kTrain) return;
  Copy(stream, {.source = memory_.arena.View(words.norm, DType::kF32, {1}),
                .destination = host(offsetof(StepWords, norm), DType::kF32, 1)});
  if (CollectsAmax() && input_.wants_amax) {
    Copy(stream, {.source = StepAmax(), .destination = HostAmax()});
  }
}

}  // namespace hearth
