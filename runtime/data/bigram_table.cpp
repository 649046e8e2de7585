#include "runtime/data/bigram_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr int64_t kChunkTokens = 1 << 16;

int64_t VocabularyOf(const TokenDataset& data) {
  int64_t vocab_size = data.options().vocab_limit;
  for (const TokenFile* file : data.Files()) vocab_size = std::max(vocab_size, file->vocab_size());
  return vocab_size;
}

}  // namespace

BigramTable::BigramTable(int64_t vocab_size) : vocab_size_(vocab_size) {
  if (vocab_size < 1 || vocab_size > kMaxVocab) {
    throw ConfigError(fmt::format("a table of token pairs needs a vocabulary of 1 to {}, not {}",
                                  kMaxVocab, vocab_size));
  }
  pairs_.assign(static_cast<size_t>(vocab_size * vocab_size), 0);
  totals_.assign(static_cast<size_t>(vocab_size), 0);
}

void BigramTable::Count(const TokenFile& file) {
  const std::span<const int64_t> starts = file.DocumentStarts();
  auto next_start = starts.begin();
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(kChunkTokens, file.token_count())));
  int32_t previous = -1;
  for (int64_t begin = 0; begin < file.token_count(); begin += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, file.token_count() - begin);
    file.ReadTokens(begin, std::span(tokens).first(static_cast<size_t>(count)));
    for (int64_t i = 0; i < count; ++i) {
      const int32_t token = tokens[static_cast<size_t>(i)];
      if (token >= vocab_size_) {
        throw IoError(fmt::format("{}: error: the id {} is outside the vocabulary of {}",
                                  file.path(), token, vocab_size_));
      }
      if (next_start != starts.end() && *next_start == begin + i) {
        previous = -1;
        ++next_start;
      }
      if (previous >= 0) {
        ++pairs_[static_cast<size_t>(previous * vocab_size_ + token)];
        ++totals_[static_cast<size_t>(previous)];
      }
      previous = token;
    }
  }
}

double BigramTable::Nats(int32_t previous, int32_t next) const {
  CHECK(previous >= 0 && previous < vocab_size_ && next >= 0 && next < vocab_size_,
        "the pair {}, {} of a vocabulary of {}", previous, next, vocab_size_);
  const double pair =
      static_cast<double>(pairs_[static_cast<size_t>(previous * vocab_size_ + next)]);
  const double total = static_cast<double>(totals_[static_cast<size_t>(previous)]);
  return std::log(total + static_cast<double>(vocab_size_)) - std::log(pair + 1.0);
}

double BigramTable::Nats(const MicroBatch& batch) const {
  double nats = 0;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] != kMaskedTarget) nats += Nats(batch.tokens[i], batch.targets[i]);
  }
  return nats;
}

double BigramNatsPerTarget(const TokenDataset& training, const TokenDataset& held_out,
                           int64_t global_batch_size, int64_t max_batches) {
  BigramTable table(std::max(VocabularyOf(training), VocabularyOf(held_out)));
  for (const TokenFile* file : training.Files()) table.Count(*file);
  const BatchPartition partition{.global_batch_size = global_batch_size};
  partition.Validate(held_out.sequence_len());
  double nats = 0;
  int64_t targets = 0;
  for (int64_t i = 0; i < EvaluationBatchCount(held_out, partition, max_batches); ++i) {
    const StepBatch batch = BuildEvaluationBatch(held_out, partition, i);
    for (const MicroBatch& micro_batch : batch.micro_batches) nats += table.Nats(micro_batch);
    targets += batch.target_count;
  }
  if (targets == 0) throw ConfigError("the evaluation data has no target that counts");
  return nats / static_cast<double>(targets);
}

}  // namespace hearth
