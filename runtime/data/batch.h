// What a rank gets for a step: micro-batches, built by a pure function of data and step.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/data/token_dataset.h"

namespace hearth {

inline constexpr int32_t kPaddingToken = -1;  // the embedding gives a zero row
inline constexpr int32_t kMaskedTarget = -1;  // no loss, no gradient

// `rows` real samples come first; the rest are padding rows: token -1, target -1, position 0, in no
// sequence.
struct MicroBatch {
  std::vector<int32_t> tokens;     // [micro_batch_size * sequence_len], row-major
  std::vector<int32_t> targets;    // [micro_batch_size * sequence_len]
  std::vector<int32_t> positions;  // [micro_batch_size * sequence_len]
  // [sequences + 1] cumulative lengths: first 0, last rows * sequence_len. Attention stays inside
  // a sequence.
  std::vector<int32_t> sequence_offsets;
  int64_t target_count = 0;  // targets that are not masked
  int32_t max_sequence = 0;  // longest sequence; 0 when there is no real row
  int64_t rows = 0;

  bool operator==(const MicroBatch&) const = default;
};

struct StepBatch {
  int64_t step = 0;
  std::vector<MicroBatch> micro_batches;
  int64_t target_count = 0;  // of this rank

  bool operator==(const StepBatch&) const = default;
};

// How a global batch is cut over ranks and micro-batches.
struct BatchPartition {
  int64_t global_batch_size = 1;
  int64_t micro_batch_size = 1;
  int64_t rank = 0;
  int64_t world_size = 1;

  // Throws ConfigError when a field is out of range or a micro-batch exceeds 2^31 - 1 tokens.
  void Validate(int64_t sequence_len) const;
  // Of `samples` (a global batch, or less at the end of an evaluation) rank r takes
  // [Begin, End) = [r*samples/W, (r+1)*samples/W).
  int64_t Begin(int64_t samples) const { return rank * samples / world_size; }
  int64_t End(int64_t samples) const { return (rank + 1) * samples / world_size; }
  // Micro-batches of every rank: ceil(ceil(samples/W) / micro_batch_size). A rank with fewer rows
  // pads, by a micro-batch without rows if need be, so that all ranks take part in every
  // collective.
  int64_t MicroBatches(int64_t samples) const;
};

// The batch of training step `step` >= 0: global samples [step*G, (step+1)*G).
StepBatch BuildTrainingBatch(const TokenDataset& data, const BatchPartition& partition,
                             int64_t step);

// Evaluation goes through the samples in order, G at a time; the last batch may be smaller.
// min(max_batches, ceil(samples / G)) batches.
int64_t EvaluationBatchCount(const TokenDataset& data, const BatchPartition& partition,
                             int64_t max_batches);
StepBatch BuildEvaluationBatch(const TokenDataset& data, const BatchPartition& partition,
                               int64_t batch);

}  // namespace hearth
