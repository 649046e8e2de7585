#include "runtime/data/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

MicroBatch EmptyMicroBatch(int64_t elements) {
  MicroBatch batch;
  batch.tokens.assign(static_cast<size_t>(elements), kPaddingToken);
  batch.targets.assign(static_cast<size_t>(elements), kMaskedTarget);
  batch.positions.assign(static_cast<size_t>(elements), 0);
  batch.sequence_offsets.assign(1, 0);
  return batch;
}

// Samples [first, first + rows) as a micro-batch of micro_batch_size rows.
MicroBatch BuildMicroBatch(const TokenDataset& data, int64_t micro_batch_size, int64_t first,
                           int64_t rows) {
  const int64_t length = data.sequence_len();
  MicroBatch batch = EmptyMicroBatch(micro_batch_size * length);
  batch.rows = rows;
  std::vector<int32_t> sequence_lengths;
  for (int64_t row = 0; row < rows; ++row) {
    const auto part = [&](std::vector<int32_t>& values) {
      return std::span(values).subspan(static_cast<size_t>(row * length),
                                       static_cast<size_t>(length));
    };
    batch.target_count += data.ReadSample(data.Locate(first + row),
                                          {.tokens = part(batch.tokens),
                                           .targets = part(batch.targets),
                                           .positions = part(batch.positions)},
                                          &sequence_lengths);
  }
  for (int32_t sequence : sequence_lengths) {
    batch.sequence_offsets.push_back(batch.sequence_offsets.back() + sequence);
    batch.max_sequence = std::max(batch.max_sequence, sequence);
  }
  return batch;
}

// This rank's part of global samples [first, first + samples).
StepBatch BuildBatch(const TokenDataset& data, const BatchPartition& partition, int64_t first,
                     int64_t samples) {
  StepBatch batch;
  const int64_t end = partition.End(samples);
  int64_t begin = partition.Begin(samples);
  for (int64_t i = 0; i < partition.MicroBatches(samples); ++i) {
    const int64_t rows = std::min(partition.micro_batch_size, end - begin);
    batch.micro_batches.push_back(
        BuildMicroBatch(data, partition.micro_batch_size, first + begin, rows));
    batch.target_count += batch.micro_batches.back().target_count;
    begin += rows;
  }
  CHECK(begin == end, "{} of {} samples were placed", begin, end);
  return batch;
}

}  // namespace

void BatchPartition::Validate(int64_t sequence_len) const {
  constexpr int64_t kMaxGlobalBatch = int64_t{1} << 31;
  constexpr int64_t kMaxWorld = int64_t{1} << 20;
  const bool sound = global_batch_size >= 1 && global_batch_size <= kMaxGlobalBatch &&
                     world_size >= 1 && world_size <= kMaxWorld && rank >= 0 && rank < world_size;
  if (!sound) {
    throw ConfigError(fmt::format("global_batch_size {} on rank {} of {} is out of range",
                                  global_batch_size, rank, world_size));
  }
  const int64_t max_tokens = std::numeric_limits<int32_t>::max();
  if (micro_batch_size < 1 || micro_batch_size > max_tokens / sequence_len) {
    throw ConfigError(
        fmt::format("micro_batch_size {} with sequence_len {}: a micro-batch has 1 "
                    "to 2^31 - 1 tokens",
                    micro_batch_size, sequence_len));
  }
}

int64_t BatchPartition::MicroBatches(int64_t samples) const {
  return DivUp(DivUp(samples, world_size), micro_batch_size);
}

StepBatch BuildTrainingBatch(const TokenDataset& data, const BatchPartition& partition,
                             int64_t step) {
  CHECK(step >= 0 && step <= (int64_t{1} << 62) / partition.global_batch_size, "step {}", step);
  StepBatch batch =
      BuildBatch(data, partition, step * partition.global_batch_size, partition.global_batch_size);
  batch.step = step;
  return batch;
}

int64_t EvaluationBatchCount(const TokenDataset& data, const BatchPartition& partition,
                             int64_t max_batches) {
  CHECK(max_batches >= 0, "at most {} batches", max_batches);
  return std::min(max_batches, DivUp(data.samples_per_epoch(), partition.global_batch_size));
}

StepBatch BuildEvaluationBatch(const TokenDataset& data, const BatchPartition& partition,
                               int64_t batch) {
  const int64_t first = batch * partition.global_batch_size;
  CHECK(batch >= 0 && first < data.samples_per_epoch(), "evaluation batch {}", batch);
  const int64_t samples = std::min(partition.global_batch_size, data.samples_per_epoch() - first);
  StepBatch result = BuildBatch(data, partition, first, samples);
  result.step = batch;
  return result;
}

}  // namespace hearth
