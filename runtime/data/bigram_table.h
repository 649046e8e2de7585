// The table of token pairs: the simplest predictor that sees context, printed beside a model's
// held-out loss.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/data/batch.h"
#include "runtime/data/token_file.h"

namespace hearth {

// p(b | a) = (count(a, b) + 1) / (count(a) + V), add-one (Laplace) smoothing.
class BigramTable {
 public:
  static constexpr int64_t kMaxVocab = 4096;  // 128 MiB of counts

  // Throws ConfigError for a vocabulary that is not in [1, kMaxVocab].
  explicit BigramTable(int64_t vocab_size);

  // Counts the pairs inside each document of the file.
  void Count(const TokenFile& file);
  // -ln p(next | previous).
  double Nats(int32_t previous, int32_t next) const;
  // The sum over the targets of a batch that are not masked.
  double Nats(const MicroBatch& batch) const;

 private:
  int64_t vocab_size_ = 0;
  std::vector<int64_t> pairs_;   // [V, V]
  std::vector<int64_t> totals_;  // [V]
};

// Mean nats per target of the first `max_batches` evaluation batches of `held_out` (all ranks'
// slices together), the table being counted on every file of `training`: for a byte tokenizer,
// nats per byte. Comparable to eval/loss on the same batches.
double BigramNatsPerTarget(const TokenDataset& training, const TokenDataset& held_out,
                           int64_t global_batch_size, int64_t max_batches);

}  // namespace hearth
