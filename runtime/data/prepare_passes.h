// The ways in which `hearth prepare` turns inputs into shards.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "runtime/data/chunk_encoder.h"
#include "runtime/data/permutation.h"
#include "runtime/data/prepare.h"
#include "runtime/data/prepare_inputs.h"
#include "runtime/data/shard_builder.h"

namespace hearth {

// Tells the caller how far it is, not too often.
class ProgressReporter {
 public:
  // `options` outlives the reporter.
  ProgressReporter(const PrepareOptions& options, int64_t bytes_total);

  // What an earlier process did, which took this one no time.
  void SkipTo(int64_t bytes_done) { bytes_skipped_ = bytes_done; }
  void Update(int64_t bytes_done, int64_t documents);
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;

  void Report(Clock::time_point now);

  const PrepareOptions& options_;
  Clock::time_point start_;
  Clock::time_point last_;
  int64_t bytes_skipped_ = 0;
  PrepareProgress progress_;
};

// Which part of each document is held out; chosen when the documents have been counted.
class HoldoutChoice {
 public:
  HoldoutChoice() = default;
  HoldoutChoice(double fraction, int64_t documents);

  // Few documents: instead of whole ones the end of each is held out.
  bool cuts_tails() const { return fraction_ > 0 && !order_; }
  // The first token held out of document `index` of `length` tokens: 0 all, length none.
  int64_t Cut(int64_t index, int64_t length) const;

 private:
  double fraction_ = 0;
  int64_t whole_ = 0;
  std::optional<Permutation> order_;
};

// What a text pass needs besides the options.
struct TextPass {
  const PrepareOptions& options;
  const PrepareInputs& inputs;
  EncodingOptions encoding;
  ShardBuilder::Options train;
  std::optional<ShardBuilder::Options> holdout;
};

// Text and JSONL, on threads, resumable. The shards are published.
PrepareResult PrepareText(const TextPass& pass);

// Text with repeated paragraphs left out.
PrepareResult PrepareParagraphs(const TextPass& pass);

// Token files of other programs, as they are.
PrepareResult PrepareTokens(const PrepareOptions& options, const PrepareInputs& inputs);

// Tokens, documents and padding of a shard; ConfigError when there is nothing in it.
PreparedShard Describe(const ShardBuilder& shard);
// Both appear under their names, or neither does. `holdout` may be null.
void PublishShards(ShardBuilder& train, ShardBuilder* holdout, PrepareResult* result);

}  // namespace hearth
