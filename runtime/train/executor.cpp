#include "runtime/train/executor.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/core/check.h"
#include "runtime/layers/block.h"

namespace hearth {

namespace {

constexpr std::array<StreamId, 4> kDeviceStreams = {StreamId::kCompute, StreamId::kComm,
                                                    StreamId::kToDevice, StreamId::kToHost};

// A view of ordinary host memory as bytes; copies know no types.
TensorView HostBytes(void* data, int64_t bytes) { return {data, DType::kU8, {bytes}}; }

TensorView AsBytes(const TensorView& view) { return {view.data(), DType::kU8, {view.bytes()}}; }

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
      optimizer_(memory_) {
  Device& device = backend_.device();
  for (StreamId id : kDeviceStreams) {
    streams_[static_cast<size_t>(id)] = device.CreateStream(Name(id));
    to_host_optimizer_[static_cast<size_t>(id)] = device.CreateHostSignal();
  }
  from_host_optimizer_ = device.CreateHostSignal();
  communicator_.RegisterSlab(memory_.slab.Bytes());
  Stream& compute = *streams_[static_cast<size_t>(StreamId::kCompute)];
  // Padding stays zero from here on: nothing ever writes it.
  for (const Arena* arena : {&memory_.slab, &memory_.arena, &memory_.host}) {
    if (arena->bytes() > 0) backend_.Zero(compute, {.destination = arena->Bytes()});
  }
  compute.Synchronize(options_.step_timeout);
  const std::vector<float> rope = RopeTable(spec_.config, plan_.sequence_len);
  Upload(rope.data(), activations_.CosSin());
  if (plan_.optimizer.update_on_host) {
    host_optimizer_ = std::make_unique<HostOptimizer>(options_.host_threads, options_.step_timeout);
  }
}

Executor::~Executor() {
  // What is still queued uses the memory that goes away below.
  for (const auto& stream : streams_) {
    if (!stream || failed_) continue;
    try {
      stream->Synchronize(options_.step_timeout);
    } catch (const std::exception&) {
      // Whoever waited for the step has been told already.
    }
  }
}

void Executor::Download(const TensorView& source, void* destination) {
  Stream& stream = *streams_[static_cast<size_t>(StreamId::kToHost)];
  backend_.Copy(stream,
                {.source = AsBytes(source), .destination = HostBytes(destination, source.bytes())});
  stream.Synchronize(options_.step_timeout);
}

void Executor::Upload(const void* source, const TensorView& destination) {
  Stream& stream = *streams_[static_cast<size_t>(StreamId::kToDevice)];
  // A view has no const form; Copy only reads its source.
  backend_.Copy(stream, {.source = HostBytes(const_cast<void*>(source), destination.bytes()),
                         .destination = AsBytes(destination)});
  stream.Synchronize(options_.step_timeout);
}

const Schedule& Executor::schedule(Phase phase) {
  std::unique_ptr<Schedule>& schedule = schedules_[static_cast<size_t>(phase)];
  if (!schedule) {
    schedule = std::make_unique<Schedule>(BuildSchedule(phase, plan_, spec_, memory_.rank));
    AllocateEvents(*schedule);
  }
  return *schedule;
}

void Executor::AllocateEvents(const Schedule& schedule) {
  while (events_.size() < schedule.tasks.size()) {
    events_.push_back(backend_.device().CreateEvent());
  }
  task_values_.resize(std::max(task_values_.size(), schedule.tasks.size()));
}

void Executor::Publish(int64_t step) { Run(Phase::kPublish, {.step = step}); }
StepResult Executor::Train(const StepInput& input) { return Run(Phase::kTrain, input); }
StepResult Executor::ComputeGradients(const StepInput& input) {
  return Run(Phase::kGradients, input);
}
StepResult Executor::Evaluate(const StepInput& input) { return Run(Phase::kEvaluate, input); }

StepResult Executor::Run(Phase phase, const StepInput& input) {
  CHECK(!failed_, "an executor that failed is used again");
  failed_ = true;  // until the end is reached
  phase_ = phase;
  input_ = input;
  if (phase != Phase::kPublish) {
    CHECK(input.batch != nullptr &&
              static_cast<int64_t>(input.batch->micro_batches.size()) <= plan_.micro_batches,
          "a step of {} micro-batches, planned {}",
          input.batch ? input.batch->micro_batches.size() : 0, plan_.micro_batches);
    FillHostBatch(*input.batch);
  }
  StepWords words;
  words.gradient_scale =
      input.targets > 0 ? static_cast<float>(1.0 / static_cast<double>(input.targets)) : 0.0f;
  const TensorView host_words =
      memory_.host.View(memory_.layout.words.host, DType::kU8, {sizeof(StepWords)});
  std::memcpy(host_words.data(), &words, sizeof(words));
  const Schedule& steps = schedule(phase);
  for (const Task& task : steps.tasks) Enqueue(steps, task);
  Synchronize();
  if (phase == Phase::kTrain || phase == Phase::kPublish) weights_version_ = input.step;
  forward_count_ += plan_.micro_batches;
  std::memcpy(&words, host_words.data(), sizeof(words));
  failed_ = false;
  FixedPointSum losses;
  for (int i = 0; i < 4; ++i) {
    losses.limbs[static_cast<size_t>(i)] = words.sums[kFixedPointWords + i];
  }
  losses.not_representable = words.sums[kFixedPointWords + 4];
  return {.loss_sum = ToDouble(losses),
          .grad_norm = words.norm,
          .skipped = phase == Phase::kTrain && words.skip != 0};
}

void Executor::Synchronize() {
  // The end task waits for all streams; the others are asked for the errors they keep.
  std::exception_ptr error;
  for (StreamId id : kDeviceStreams) {
    try {
      streams_[static_cast<size_t>(id)]->Synchronize(options_.step_timeout);
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

void Executor::Enqueue(const Schedule& schedule, const Task& task) {
  const auto id = static_cast<size_t>(task.id);
  if (task.stream == StreamId::kHostOptimizer) {
    EnqueueOnHostOptimizer(task);
  } else {
    Stream& stream = *streams_[static_cast<size_t>(task.stream)];
    for (int wait : task.waits) {
      const auto other = static_cast<size_t>(wait);
      if (schedule.tasks[other].stream == StreamId::kHostOptimizer) {
        stream.Wait(*from_host_optimizer_, task_values_[other]);
      } else {
        stream.Wait(*events_[other]);
      }
    }
    Dispatch(task, stream);
    stream.Record(*events_[id]);
    if (host_optimizer_) {
      const auto s = static_cast<size_t>(task.stream);
      task_values_[id] = ++stream_values_[s];
      stream.Signal(*to_host_optimizer_[s], task_values_[id]);
    }
  }
  if (task_hook_) task_hook_(task);
}

void Executor::EnqueueOnHostOptimizer(const Task& task) {
  const Schedule& steps = schedule(phase_);
  std::vector<SignalWait> waits;
  for (int wait : task.waits) {
    const auto other = static_cast<size_t>(wait);
    const auto stream = static_cast<size_t>(steps.tasks[other].stream);
    waits.push_back({to_host_optimizer_[stream].get(), task_values_[other]});
  }
  const uint32_t done = ++stream_values_[static_cast<size_t>(StreamId::kHostOptimizer)];
  task_values_[static_cast<size_t>(task.id)] = done;
  const Task* borrowed = &task;  // schedules live as long as the executor
  host_optimizer_->worker().Enqueue(
      std::move(waits),
      [this, borrowed] {
        if (borrowed->kind == TaskKind::kUpdate) {
          UpdateOnHost(*borrowed);
        } else {
          CastMasterOnHost(*borrowed);
        }
      },
      *from_host_optimizer_, done);
}

void Executor::Dispatch(const Task& task, Stream& stream) {
  switch (task.kind) {
    case TaskKind::kBeginStep:
      return BeginStep(stream);
    case TaskKind::kLoadBatch:
      return LoadBatch(task, stream);
    case TaskKind::kZeroGradients:
      return ZeroGradients(task, stream);
    case TaskKind::kForward:
      return Forward(task, stream);
    case TaskKind::kHead:
      return Head(task, stream);
    case TaskKind::kRecompute:
      return Recompute(task, stream);
    case TaskKind::kBackward:
      return Backward(task, stream);
    case TaskKind::kReduceGradients:
      return ReduceGradients(task, stream);
    case TaskKind::kSquareSum:
      return SquareSum(task, stream);
    case TaskKind::kReduceSums:
      return ReduceSums(stream);
    case TaskKind::kClip:
      return Clip(stream);
    case TaskKind::kGatherGradients:
      return GatherGradients(task, stream);
    case TaskKind::kFetchState:
    case TaskKind::kStoreState:
      return MoveState(task, stream);
    case TaskKind::kGradientsToHost:
      return GradientsToHost(task, stream);
    case TaskKind::kUpdate:
      return Update(task, stream);
    case TaskKind::kWeightsToDevice:
      return WeightsToDevice(task, stream);
    case TaskKind::kCastMaster:
      return CastMaster(task, stream);
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
  backend_.Zero(
      stream, {.destination = memory_.slab.View(words.sums, DType::kI64, {2 * kFixedPointWords})});
  backend_.Copy(stream,
                {.source = memory_.host.View(
                     words.host + static_cast<int64_t>(offsetof(StepWords, gradient_scale)),
                     DType::kF32, {1}),
                 .destination = memory_.arena.View(words.gradient_scale, DType::kF32, {1})});
}

void Executor::EndStep(Stream& stream) {
  const WordLayout& words = memory_.layout.words;
  const auto host = [&](size_t offset, DType dtype, int64_t count) {
    return memory_.host.View(words.host + static_cast<int64_t>(offset), dtype, {count});
  };
  backend_.Copy(
      stream, {.source = memory_.slab.View(words.sums, DType::kI64, {2 * kFixedPointWords}),
               .destination = host(offsetof(StepWords, sums), DType::kI64, 2 * kFixedPointWords)});
  if (phase_ != Phase::kTrain) return;
  backend_.Copy(stream, {.source = memory_.arena.View(words.norm, DType::kF32, {1}),
                         .destination = host(offsetof(StepWords, norm), DType::kF32, 1)});
}

void Executor::FillHostBatch(const StepBatch& batch) {
  static const MicroBatch kNoRows;
  for (size_t i = 0; i < static_cast<size_t>(plan_.micro_batches); ++i) {
    FillHostMicroBatch(i < batch.micro_batches.size() ? batch.micro_batches[i] : kNoRows, i);
  }
}

void Executor::FillHostMicroBatch(const MicroBatch& batch, size_t index) {
  const int micro_batch = static_cast<int>(index);
  const auto& layouts = memory_.layout.host_batch;
  const auto fill = [&](int64_t BatchLayout::*field, const std::vector<int32_t>& values,
                        int32_t rest) {
    const TensorView view = BatchView(layouts, memory_.host, micro_batch, field);
    CHECK(static_cast<int64_t>(values.size()) <= view.elements(),
          "{} values for a batch tensor of {}", values.size(), view.elements());
    int32_t* out = view.as<int32_t>();
    std::copy(values.begin(), values.end(), out);
    std::fill(out + values.size(), out + view.elements(), rest);
  };
  fill(&BatchLayout::tokens, batch.tokens, kPaddingToken);
  fill(&BatchLayout::targets, batch.targets, kMaskedTarget);
  fill(&BatchLayout::positions, batch.positions, 0);
  // The unused tail repeats the number of real tokens.
  fill(&BatchLayout::sequence_offsets, batch.sequence_offsets,
       batch.sequence_offsets.empty() ? 0 : batch.sequence_offsets.back());
}

void Executor::LoadBatch(const Task& task, Stream& stream) {
  for (auto field : {&BatchLayout::tokens, &BatchLayout::targets, &BatchLayout::positions,
                     &BatchLayout::sequence_offsets}) {
    backend_.Copy(
        stream,
        {.source = BatchView(memory_.layout.host_batch, memory_.host, task.micro_batch, field),
         .destination = BatchView(memory_.layout.batch, memory_.arena, task.micro_batch, field)});
  }
}

TensorView Executor::BatchView(const std::vector<BatchLayout>& layouts, const Arena& arena,
                               int micro_batch, int64_t BatchLayout::*field) const {
  const int64_t offset = layouts.at(static_cast<size_t>(micro_batch)).*field;
  const int64_t count = field == &BatchLayout::sequence_offsets ? plan_.max_sequences + 1
                                                                : plan_.tokens_per_micro_batch;
  return arena.View(offset, DType::kI32, {count});
}

}  // namespace hearth
