// The executor's tasks that take a gradient from where backward adds to it to its update.

#include "kernels/core/check.h"
#include "runtime/train/executor.h"

namespace hearth {

int64_t Executor::GradientVersion(int micro_batch) const {
  return input_.step * plan_.micro_batches + micro_batch;
}

int64_t Executor::FullGradientVersion() const {
  return GradientVersion(static_cast<int>(micro_batches_) - 1);
}

int64_t Executor::FullGradientVersion(const Task& task) const {
  if (task.step_offset == 0) return FullGradientVersion();
  return pending_->step * plan_.micro_batches + pending_->micro_batches - 1;
}

void Executor::ZeroGradients(const Task& task, Stream& stream) {
  const Lease lease = gradients_.Write(task.unit, kNothing);
  const UnitSpec& unit = spec_.units[static_cast<size_t>(task.unit)];
  backend_.Zero(stream, {.destination = gradients_.Range(task.unit, {0, unit.elements})});
}

void Executor::MoveGradients(const Task& task, Stream& stream) {
  if (task.kind == TaskKind::kFetchGradients) return FetchGradients(task, stream);
  if (task.kind == TaskKind::kStoreGradients) return StoreGradients(task, stream);
  GradientsToHost(task, stream);
}

void Executor::FetchGradients(const Task& task, Stream& stream) {
  const bool for_update = task.micro_batch < 0;
  const int64_t version =
      for_update ? FullGradientVersion(task) : GradientVersion(task.micro_batch - 1);
  const TensorView sum = for_update ? TensorView{} : gradients_.ShardSum(task.unit);
  const Lease from = gradients_.ReadHost(task.unit, version);
  const Lease to =
      sum ? gradients_.WriteSum(task.unit, version) : gradients_.Write(task.unit, version);
  if (task.elements.count() == 0) return;
  Copy(stream, {.source = gradients_.OnHost(task.unit, task.elements),
                .destination = sum ? sum : gradients_.Range(task.unit, task.elements)});
}

void Executor::StoreGradients(const Task& task, Stream& stream) {
  const int64_t version = GradientVersion(task.micro_batch);
  const bool gathered = plan_.zero_stage == 0 && task.micro_batch + 1 == micro_batches_;
  const TensorView sum = gathered ? TensorView{} : gradients_.ShardSum(task.unit);
  const Lease from =
      sum ? gradients_.ReadSum(task.unit, version) : gradients_.Read(task.unit, version);
  const Lease to = gradients_.WriteHost(task.unit, version);
  if (task.elements.count() == 0) return;
  Copy(stream, {.source = sum ? sum : gradients_.Range(task.unit, task.elements),
                .destination = gradients_.OnHost(task.unit, task.elements)});
}

void Executor::ReduceGradients(const Task& task, Stream& stream) {
  if (task.kind == TaskKind::kExchangeShards) return ExchangeShards(task, stream);
  const int64_t version = GradientVersion(task.micro_batch);
  const Lease lease = gradients_.Read(task.unit, version);
  const TensorView sum = gradients_.ShardSum(task.unit);
  Lease sum_lease;
  if (sum) sum_lease = gradients_.WriteSum(task.unit, version);
  const UnitSpec& unit = spec_.units[static_cast<size_t>(task.unit)];
  ReduceScatterArgs args{.dtype = plan_.precision.gradient};
  for (int rank = 0; rank < plan_.RanksPerBox(); ++rank) {
    args.ranges.push_back(gradients_.Slab(task.unit, plan_.Shard(unit, rank)));
  }
  args.out = sum ? sum : gradients_.Range(task.unit, task.elements);
  args.accumulate = plan_.RanksFirst();
  if (args.accumulate && task.micro_batch == 0 && task.elements.count() > 0) {
    backend_.Zero(stream, {.destination = sum});
  }
  communicator_.ReduceScatter(stream, args);
}

void Executor::GatherGradients(const Task& task, Stream& stream) {
  const TensorView sum = gradients_.ShardSum(task.unit);
  Lease sum_lease;
  if (sum) sum_lease = gradients_.ReadSum(task.unit, FullGradientVersion());
  const Lease lease = gradients_.Write(task.unit, FullGradientVersion());
  if (sum && task.elements.count() > 0) {
    Copy(stream, {.source = sum, .destination = gradients_.Range(task.unit, task.elements)});
  }
  GatherShards(task.unit, stream);
}

void Executor::GatherShards(int unit, Stream& stream) {
  AllGatherArgs args;
  for (int rank = 0; rank < plan_.RanksPerBox(); ++rank) {
    const ElementRange shard = plan_.Shard(spec_.units[static_cast<size_t>(unit)], rank);
    args.ranges.push_back(gradients_.Slab(unit, shard));
  }
  communicator_.AllGather(stream, args);
}

void Executor::LoadGradients(int unit) {
  const GradientPlaces& places = gradients_.places();
  if (!places.InSlot(unit)) return;
  CHECK(phase_ == Phase::kGradients && !failed_, "there are no gradients of a step to load");
  Stream& stream = *streams_[static_cast<size_t>(StreamId::kComm)];
  const int64_t version = FullGradientVersion();
  const bool on_host = places.OnHost(unit);
  const ElementRange held = on_host
                                ? places.HostRange(unit, memory_.rank)
                                : plan_.Shard(spec_.units[static_cast<size_t>(unit)], memory_.rank);
  {
    const Lease from =
        on_host ? gradients_.ReadHost(unit, version) : gradients_.ReadSum(unit, version);
    const Lease to = gradients_.Write(unit, version);
    if (held.count() > 0) {
      Copy(stream, {.source = on_host ? gradients_.OnHost(unit, held) : gradients_.ShardSum(unit),
                    .destination = gradients_.Range(unit, held)});
    }
    if (plan_.gradients.sharded) GatherShards(unit, stream);
  }
  stream.Synchronize(options_.step_timeout);
}

TensorView Executor::SumOverRanks(const Task& task) const {
  const TensorView sum = gradients_.ShardSum(task.unit);
  return sum ? sum : gradients_.Range(task.unit, task.elements);
}

void Executor::SquareSum(const Task& task, Stream& stream) {
  if (task.elements.count() == 0) return;
  const Lease lease = gradients_.ReadSum(task.unit, FullGradientVersion());
  backend_.AddFixedPoint(stream, {.input = SumOverRanks(task),
                                  .terms = SumTerms::kSquaredBlocks,
                                  .sum = memory_.slab.View(memory_.layout.words.sums, DType::kI64,
                                                           {kFixedPointWords})});
}

Lease Executor::LeaseUpdatedGradient(const Task& task) {
  const int64_t version = FullGradientVersion(task);
  const bool whole = plan_.zero_stage == 0 || gradients_.places().OnHost(task.unit);
  return whole ? gradients_.Read(task.unit, version) : gradients_.ReadSum(task.unit, version);
}

TensorView Executor::UpdatedGradient(const Task& task) const {
  const TensorView sum = gradients_.ShardSum(task.unit);
  const bool whole = plan_.zero_stage == 0 || gradients_.places().OnHost(task.unit);
  if (!sum || whole) return gradients_.Range(task.unit, task.elements);
  const UnitSpec& unit = spec_.units[static_cast<size_t>(task.unit)];
  return sum.Rows(task.elements.begin - plan_.Shard(unit, memory_.rank).begin,
                  task.elements.count());
}

TensorView Executor::HostGradient(const Task& task) const {
  return gradients_.places().OnHost(task.unit) ? gradients_.OnHost(task.unit, task.elements)
                                               : optimizer_.HostGradients(task.unit, task.slot);
}

void Executor::GradientsToHost(const Task& task, Stream& stream) {
  const Lease lease = LeaseUpdatedGradient(task);
  if (task.elements.count() == 0) return;
  Copy(stream, {.source = UpdatedGradient(task),
                .destination = optimizer_.HostGradients(task.unit, task.slot)});
}

}  // namespace hearth
