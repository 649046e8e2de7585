#include "runtime/data/prepare_passes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/paragraphs.h"

namespace hearth {

namespace {

constexpr int64_t kAppendChunk = 1 << 16;

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// What the writers need to know before the first token.
HearthWriterOptions TokenWriterOptions(const PrepareInputs& inputs, std::string path) {
  HearthWriterOptions options;
  options.path = std::move(path);
  bool all_known = true;
  bool all_narrow = true;
  for (const std::unique_ptr<TokenFile>& file : inputs.token_files()) {
    all_known &= file->vocab_size() > 0;
    all_narrow &= BytesPerToken(file->storage()) <= 2;
    options.vocab_size = std::max(options.vocab_size, file->vocab_size());
    options.has_loss_mask |= file->has_loss_mask();
  }
  const bool fits_16 = all_narrow || (all_known && options.vocab_size <= 65536);
  options.bytes_per_token = fits_16 ? 2 : 4;
  if (!all_known) options.vocab_size = 0;
  return options;
}

// Tokens [begin, end) of a document, counted from its first.
void AppendPart(ShardBuilder& shard, const InputDocument& document, int64_t begin, int64_t end) {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> mask;
  for (int64_t at = begin; at < end; at += kAppendChunk) {
    const size_t count = static_cast<size_t>(std::min(kAppendChunk, end - at));
    tokens.resize(count);
    document.tokens->ReadTokens(document.begin + at, tokens);
    if (document.tokens->has_loss_mask()) {
      mask.resize(count);
      document.tokens->ReadLossMask(document.begin + at, mask);
    }
    shard.Append(tokens, mask);
  }
  shard.EndDocument();
}

}  // namespace

ProgressReporter::ProgressReporter(const PrepareOptions& options, int64_t bytes_total)
    : options_(options), start_(Clock::now()), last_(start_) {
  progress_.bytes_total = bytes_total;
}

void ProgressReporter::Update(int64_t bytes_done, int64_t documents) {
  progress_.bytes_done = bytes_done;
  progress_.documents = documents;
  const Clock::time_point now = Clock::now();
  if (Seconds(now - last_) < options_.progress_interval_s) return;
  last_ = now;
  Report(now);
}

void ProgressReporter::Finish() {
  progress_.bytes_done = progress_.bytes_total;
  Report(Clock::now());
}

void ProgressReporter::Report(Clock::time_point now) {
  if (!options_.progress) return;
  const auto done = static_cast<double>(progress_.bytes_done - bytes_skipped_);
  const auto left = static_cast<double>(progress_.bytes_total - progress_.bytes_done);
  progress_.seconds_left = done > 0 ? Seconds(now - start_) * left / done : -1;
  options_.progress(progress_);
}

HoldoutChoice::HoldoutChoice(double fraction, int64_t documents) : fraction_(fraction) {
  const int64_t wanted = std::llround(fraction * static_cast<double>(documents));
  whole_ = std::min(wanted, documents - 1);
  if (whole_ > 0) order_.emplace(Permutation::Key{.use = PermutationUse::kHoldout}, documents);
}

int64_t HoldoutChoice::Cut(int64_t index, int64_t length) const {
  if (order_) return (*order_)(index) < whole_ ? 0 : length;
  return length - std::llround(fraction_ * static_cast<double>(length));
}

PreparedShard Describe(const ShardBuilder& shard) {
  if (shard.tokens() == 0) {
    throw ConfigError(
        fmt::format("{}: error: nothing would be written to it; give more input", shard.path()));
  }
  return {.path = shard.path(),
          .documents = shard.documents(),
          .tokens = shard.tokens(),
          .padding = shard.padding()};
}

void PublishShards(ShardBuilder& train, ShardBuilder* holdout, PrepareResult* result) {
  Describe(train);
  if (holdout != nullptr) Describe(*holdout);
  train.Seal();
  if (holdout != nullptr) holdout->Seal();
  result->train = Describe(train);
  if (holdout != nullptr) result->holdout = Describe(*holdout);
  train.Publish();
  if (holdout != nullptr) holdout->Publish();
}

PrepareResult PrepareTokens(const PrepareOptions& options, const PrepareInputs& inputs) {
  ShardBuilder train({.writer = TokenWriterOptions(inputs, options.output)});
  std::optional<ShardBuilder> holdout;
  HoldoutChoice choice;
  const int64_t passes = options.holdout ? 2 : 1;
  ProgressReporter progress(options, passes * inputs.bytes());
  if (options.holdout) {
    holdout.emplace(
        ShardBuilder::Options{.writer = TokenWriterOptions(inputs, HoldoutPath(options.output))});
    int64_t counted = 0;
    inputs.ForEachDocument([&](const InputDocument&, int64_t bytes_done) {
      progress.Update(bytes_done, ++counted);
      return true;
    });
    choice = HoldoutChoice(*options.holdout, counted);
  }
  int64_t documents = 0;
  inputs.ForEachDocument([&](const InputDocument& document, int64_t bytes_done) {
    const int64_t length = document.length();
    const int64_t cut = holdout ? choice.Cut(documents, length) : length;
    AppendPart(train, document, 0, cut);
    if (cut < length) AppendPart(*holdout, document, cut, length);
    progress.Update((passes - 1) * inputs.bytes() + bytes_done, ++documents);
    return true;
  });
  progress.Finish();
  PrepareResult result;
  PublishShards(train, holdout ? &*holdout : nullptr, &result);
  return result;
}

PrepareResult PrepareParagraphs(const TextPass& pass) {
  const PrepareOptions& options = pass.options;
  ShardBuilder train(pass.train);
  std::optional<ShardBuilder> holdout;
  if (pass.holdout) holdout.emplace(*pass.holdout);
  TokenEncoder encoder(pass.encoding.tokenizer);
  std::vector<int32_t> tokens;
  const auto append = [&](ShardBuilder& shard, const std::string& text) {
    if (!text.empty()) {
      tokens = pass.encoding.document_start;
      encoder.Encode(text, {.parse_special = options.parse_special}, &tokens);
      tokens.insert(tokens.end(), pass.encoding.document_end.begin(),
                    pass.encoding.document_end.end());
      shard.Append(tokens, {});
    }
    shard.EndDocument();
  };
  ProgressReporter progress(options, pass.inputs.bytes());
  ParagraphFilter filter({.max_bytes = options.max_bytes, .holdout_every = options.holdout_every});
  int64_t documents = 0;
  pass.inputs.ForEachDocument([&](const InputDocument& document, int64_t bytes_done) {
    const ParagraphFilter::Split split = filter.Add(document.text);
    append(train, split.train);
    if (holdout) append(*holdout, split.holdout);
    progress.Update(bytes_done, ++documents);
    return !filter.full();
  });
  progress.Finish();
  PrepareResult result;
  result.paragraphs_dropped = filter.dropped();
  PublishShards(train, holdout ? &*holdout : nullptr, &result);
  return result;
}

}  // namespace hearth
