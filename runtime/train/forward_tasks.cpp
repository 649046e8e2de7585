// The executor's tasks that compute: embedding, blocks and head, forward and backward.

#include <algorithm>

#include "kernels/core/check.h"
#include "runtime/layers/block.h"
#include "runtime/train/executor.h"

namespace hearth {

LayerContext Executor::Context(Stream& stream) const {
  return {backend_,
          stream,
          spec_.config,
          plan_.precision,
          activations_.Workspace(),
          FirstScales(),
          activations_.AttentionWorkspace()};
}

SequenceViews Executor::Sequences(int micro_batch) const {
  return {.positions = BatchView(micro_batch, &BatchLayout::positions),
          .sequence_offsets = BatchView(micro_batch, &BatchLayout::sequence_offsets),
          .cos_sin = activations_.CosSin(),
          .sequence_len = plan_.packed ? 0 : plan_.sequence_len};
}

BlockWeights Executor::WeightsOf(int unit) const {
  const auto vector = [&](ParameterRole role) { return parameters_.Parameter(unit, role).values; };
  const auto matrix = [&](ParameterRole role) {
    const ParameterView view = parameters_.Parameter(unit, role);
    return MatrixWeight{view.values, view.transposed, view.scale};
  };
  return {.norm1 = vector(ParameterRole::kNorm1),
          .qkv = matrix(ParameterRole::kQkvWeight),
          .qkv_bias = vector(ParameterRole::kQkvBias),
          .q_norm = vector(ParameterRole::kQNorm),
          .k_norm = vector(ParameterRole::kKNorm),
          .o = matrix(ParameterRole::kOWeight),
          .norm2 = vector(ParameterRole::kNorm2),
          .gate_up = matrix(ParameterRole::kGateUpWeight),
          .down = matrix(ParameterRole::kDownWeight)};
}

BlockGradients Executor::GradientsOf(int unit) const {
  const auto view = [&](ParameterRole role) { return gradients_.Parameter(unit, role); };
  return {.norm1 = view(ParameterRole::kNorm1),
          .qkv = view(ParameterRole::kQkvWeight),
          .qkv_bias = view(ParameterRole::kQkvBias),
          .q_norm = view(ParameterRole::kQNorm),
          .k_norm = view(ParameterRole::kKNorm),
          .o = view(ParameterRole::kOWeight),
          .norm2 = view(ParameterRole::kNorm2),
          .gate_up = view(ParameterRole::kGateUpWeight),
          .down = view(ParameterRole::kDownWeight)};
}

BlockViews Executor::ViewsOf(int layer, int micro_batch, Pass pass) const {
  BlockViews views;
  for (int i = 0; i < kBlockTensorCount; ++i) {
    const auto tensor = static_cast<BlockTensor>(i);
    views[tensor] = activations_.Block(layer, micro_batch, pass, tensor);
  }
  return views;
}

HeadWeights Executor::HeadWeightsOf() const {
  const ParameterView matrix = parameters_.HeadMatrix();
  return {.norm = parameters_.Parameter(spec_.head_unit(), ParameterRole::kFinalNorm).values,
          .matrix = {matrix.values, matrix.transposed, matrix.scale}};
}

HeadViews Executor::HeadViewsOf(int micro_batch) const {
  const HeadLayout& head = memory_.layout.head;
  const int64_t n = plan_.tokens_per_micro_batch, c = spec_.config.hidden_size;
  const DType storage = plan_.precision.storage;
  const bool fp8 = plan_.precision.fp8_head;
  const Arena& arena = memory_.arena;
  HeadViews views{.input = activations_.Boundary(activations_.places().Input(
                      static_cast<int>(spec_.config.num_layers), micro_batch)),
                  .rstd = arena.View(head.rstd, DType::kF32, {n}),
                  .normed = arena.View(head.normed, fp8 ? DType::kF8E4M3 : storage, {n, c}),
                  .targets = BatchView(micro_batch, &BatchLayout::targets),
                  .logits = arena.View(head.logits, storage,
                                       {plan_.head_chunk_tokens, spec_.padded_vocab_size()}),
                  .losses = arena.View(head.losses, DType::kF32, {n})};
  if (fp8) views.normed_scale = arena.View(head.normed_scale, DType::kF32, {4});
  return views;
}

int64_t Executor::ForwardNumber(int micro_batch) const { return forward_count_ + micro_batch; }

int64_t Executor::InputVersion(int layer, int micro_batch) const {
  return ForwardNumber(micro_batch) * 2 * (spec_.config.num_layers + 1) + layer;
}

int64_t Executor::InputGradientVersion(int layer, int micro_batch) const {
  return InputVersion(layer, micro_batch) + spec_.config.num_layers + 1;
}

int Executor::LayerOf(const Task& task) const {
  return spec_.units[static_cast<size_t>(task.unit)].layer;
}

void Executor::Forward(const Task& task, Stream& stream) {
  if (task.unit == spec_.embedding_unit()) return EmbeddingForward(task, stream);
  const int layer = LayerOf(task), mb = task.micro_batch;
  const BoundaryPlaces& places = activations_.places();
  const Lease weights = parameters_.Read(task.unit, weights_version_);
  const Lease input = activations_.ReadBoundary(places.Input(layer, mb), InputVersion(layer, mb));
  const Lease output =
      activations_.WriteBoundary(places.Input(layer + 1, mb), InputVersion(layer + 1, mb));
  const Lease kept = activations_.Write(places.Kept(layer, mb), ForwardNumber(mb));
  BlockForward(Context(stream), WeightsOf(task.unit), Sequences(mb),
               ViewsOf(layer, mb, Pass::kForward));
}

void Executor::EmbeddingForward(const Task& task, Stream& stream) {
  const int place = activations_.places().Input(0, task.micro_batch);
  const Lease weights = parameters_.Read(task.unit, weights_version_);
  const Lease out = activations_.WriteBoundary(place, InputVersion(0, task.micro_batch));
  backend_.EmbeddingForward(
      stream, {.tokens = BatchView(task.micro_batch, &BatchLayout::tokens),
               .table = parameters_.Parameter(task.unit, ParameterRole::kEmbedding).values,
               .out = activations_.Boundary(place)});
  BeginScales(task.micro_batch, stream);
}

void Executor::MoveInput(const Task& task, Stream& stream) {
  if (task.kind == TaskKind::kStoreInput) return StoreInput(task, stream);
  FetchInput(task, stream);
}

void Executor::StoreInput(const Task& task, Stream& stream) {
  const int layer = LayerOf(task), mb = task.micro_batch;
  const int place = activations_.places().Input(layer, mb);
  const int entry = activations_.places().Host(layer, mb);
  const Lease from = activations_.ReadBoundary(place, InputVersion(layer, mb));
  const Lease to = activations_.WriteHost(entry, InputVersion(layer, mb));
  Copy(stream,
       {.source = activations_.Boundary(place), .destination = activations_.HostBoundary(entry)});
}

void Executor::FetchInput(const Task& task, Stream& stream) {
  const int layer = LayerOf(task), mb = task.micro_batch;
  const int place = activations_.places().BackwardInput(layer, mb);
  const int entry = activations_.places().Host(layer, mb);
  const Lease from = activations_.ReadHost(entry, InputVersion(layer, mb));
  const Lease to = activations_.WriteBoundary(place, InputVersion(layer, mb));
  Copy(stream,
       {.source = activations_.HostBoundary(entry), .destination = activations_.Boundary(place)});
}

std::vector<Lease> Executor::LeaseHeadGradients(int micro_batch) {
  std::vector<Lease> leases;
  leases.push_back(gradients_.AddTo(spec_.head_unit(), GradientVersion(micro_batch)));
  // A tied head adds to the embedding's gradient, which is complete only behind the embedding's own
  // backward.
  if (spec_.HeadMatrix().unit != spec_.head_unit()) {
    leases.push_back(gradients_.AddTo(spec_.HeadMatrix().unit, kNothing));
  }
  return leases;
}

void Executor::Head(const Task& task, Stream& stream) {
  const ParameterSpec& matrix = spec_.HeadMatrix();
  const Lease weights = parameters_.Read(task.unit, weights_version_);
  const Lease matrix_weights = parameters_.Read(matrix.unit, weights_version_);
  const bool training = phase_ != Phase::kEvaluate;
  const int last = static_cast<int>(spec_.config.num_layers);
  const BoundaryPlaces& places = activations_.places();
  const Lease input = activations_.ReadBoundary(places.Input(last, task.micro_batch),
                                                InputVersion(last, task.micro_batch));
  std::vector<Lease> gradient_leases;
  if (training) {
    gradient_leases = LeaseHeadGradients(task.micro_batch);
    gradient_leases.push_back(activations_.WriteBoundary(
        places.Gradient(task.micro_batch), InputGradientVersion(last, task.micro_batch)));
  }
  const HeadLayout& head = memory_.layout.head;
  const WordLayout& words = memory_.layout.words;
  const Arena& arena = memory_.arena;
  HeadViews views = HeadViewsOf(task.micro_batch);
  views.loss_sum = memory_.slab.View(words.sums + kFixedPointWords * int64_t{8}, DType::kI64,
                                     {kFixedPointWords});
  HeadGradients gradients;
  if (training) {
    views.gradient_scale = arena.View(words.gradient_scale, DType::kF32, {1});
    views.d_normed = arena.View(head.d_normed, plan_.precision.storage, views.input.shape());
    views.d_input = activations_.Boundary(places.Gradient(task.micro_batch));
    if (plan_.precision.fp8_head) {
      const int64_t slab = HeadSlabTokens(plan_);
      views.normed_transposed =
          arena.View(head.normed_transposed, DType::kF8E4M3, {spec_.config.hidden_size, slab});
      views.d_logits = arena.View(head.d_logits, DType::kF8E5M2, {slab, spec_.padded_vocab_size()});
      views.d_logits_scale = arena.View(head.d_logits_scale, DType::kF32, {4});
    }
    gradients = {.norm = gradients_.Parameter(task.unit, ParameterRole::kFinalNorm),
                 .matrix = gradients_.Parameter(matrix.unit, matrix.role)};
  }
  RunHead(Context(stream), HeadWeightsOf(), gradients, views,
          {.slab_tokens = plan_.numeric.head_slab_tokens, .z_loss = plan_.z_loss});
}

void Executor::Recompute(const Task& task, Stream& stream) {
  const int layer = LayerOf(task), mb = task.micro_batch;
  const BoundaryPlaces& places = activations_.places();
  const Lease weights = parameters_.Read(task.unit, weights_version_);
  const Lease input =
      activations_.ReadBoundary(places.BackwardInput(layer, mb), InputVersion(layer, mb));
  const Lease kept = activations_.Read(places.Kept(layer, mb), ForwardNumber(mb));
  RunSegment(Context(stream), task.segment, WeightsOf(task.unit), Sequences(mb),
             ViewsOf(layer, mb, Pass::kBackward), ScaleMode::kGiven);
}

void Executor::Backward(const Task& task, Stream& stream) {
  if (task.unit == spec_.embedding_unit()) return EmbeddingBackward(task, stream);
  const int layer = LayerOf(task), mb = task.micro_batch;
  const BoundaryPlaces& places = activations_.places();
  const Lease gradients = gradients_.AddTo(task.unit, GradientVersion(mb));
  const Lease weights = parameters_.Read(task.unit, weights_version_);
  const Lease transposed = parameters_.ReadTransposed(task.unit, weights_version_);
  const Lease input =
      activations_.ReadBoundary(places.BackwardInput(layer, mb), InputVersion(layer, mb));
  const Lease kept = activations_.Read(places.Kept(layer, mb), ForwardNumber(mb));
  // What comes in must be the gradient that the layer above left; what goes out takes its place.
  activations_.ReadBoundary(places.Gradient(mb), InputGradientVersion(layer + 1, mb));
  const Lease stream_gradient =
      activations_.WriteBoundary(places.Gradient(mb), InputGradientVersion(layer, mb));
  BlockBackward(Context(stream), WeightsOf(task.unit), GradientsOf(task.unit), Sequences(mb),
                ViewsOf(layer, mb, Pass::kBackward));
}

void Executor::EmbeddingBackward(const Task& task, Stream& stream) {
  const int place = activations_.places().Gradient(task.micro_batch);
  const Lease gradients = gradients_.AddTo(task.unit, GradientVersion(task.micro_batch));
  const Lease from = activations_.ReadBoundary(place, InputGradientVersion(0, task.micro_batch));
  backend_.EmbeddingBackward(stream,
                             {.tokens = BatchView(task.micro_batch, &BatchLayout::tokens),
                              .d_out = activations_.Boundary(place),
                              .d_table = gradients_.Parameter(task.unit, ParameterRole::kEmbedding),
                              .workspace = activations_.Workspace()});
}

std::vector<float> Executor::Logits(const MicroBatch& batch, int64_t step, int64_t first_row,
                                    int64_t rows) {
  CHECK(step == weights_version_, "logits of step {}, the weights are of step {}", step,
        weights_version_);
  CHECK(!failed_, "logits while a step is under way");
  FillHostMicroBatch(batch, batch_slot_, 0);
  Stream& stream = *streams_[static_cast<size_t>(StreamId::kCompute)];
  LoadBatch(stream);
  phase_ = Phase::kEvaluate;
  for (int unit = 0; unit < spec_.head_unit(); ++unit) {
    LoadWeights(unit, stream);
    Forward({.kind = TaskKind::kForward, .unit = unit, .micro_batch = 0}, stream);
  }
  const int64_t vocab = spec_.padded_vocab_size();
  const DType storage = plan_.precision.storage;
  const HeadViews views = HeadViewsOf(0);
  const TensorView& logits = views.logits;
  HeadNorm(Context(stream), HeadWeightsOf(), views);
  std::vector<float> result(static_cast<size_t>(rows * spec_.config.vocab_size));
  std::vector<std::byte> chunk_bytes(static_cast<size_t>(logits.bytes()));
  for (int64_t begin = first_row; begin < first_row + rows; begin += plan_.head_chunk_tokens) {
    const int64_t count = std::min(plan_.head_chunk_tokens, first_row + rows - begin);
    const TensorView part = logits.Rows(0, count);
    HeadLogits(Context(stream), HeadWeightsOf(), views, begin, part);
    stream.Synchronize(options_.step_timeout);
    transfer_.Download(part, chunk_bytes.data());
    const TensorView host(chunk_bytes.data(), storage, {count, vocab});
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t column = 0; column < spec_.config.vocab_size; ++column) {
        const int64_t from = row * vocab + column;
        result[static_cast<size_t>((begin - first_row + row) * spec_.config.vocab_size + column)] =
            storage == DType::kF32 ? host.as<float>()[from] : ToFloat(host.as<BFloat16>()[from]);
      }
    }
  }
  // Also where no row was asked for: what comes next fills the batch and the weights' slots anew.
  stream.Synchronize(options_.step_timeout);
  ++forward_count_;
  return result;
}

}  // namespace hearth
