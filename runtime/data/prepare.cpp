#include "runtime/data/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/paragraphs.h"
#include "runtime/data/permutation.h"
#include "runtime/data/prepare_inputs.h"

namespace hearth {

namespace {

constexpr std::string_view kExtension = ".hearth";
constexpr int64_t kByteVocabulary = 256;
constexpr int64_t kAppendChunk = 1 << 16;
constexpr double kProgressInterval_s = 0.2;

using Clock = std::chrono::steady_clock;

class ProgressReporter {
 public:
  ProgressReporter(const PrepareOptions& options, int64_t bytes_total)
      : report_(options.progress), start_(Clock::now()), last_(start_) {
    progress_.bytes_total = bytes_total;
  }

  void Update(int64_t bytes_done, int64_t documents) {
    progress_.bytes_done = bytes_done;
    progress_.documents = documents;
    const Clock::time_point now = Clock::now();
    if (Seconds(last_, now) < kProgressInterval_s) return;
    last_ = now;
    Report(now);
  }

  void Finish() {
    progress_.bytes_done = progress_.bytes_total;
    Report(Clock::now());
  }

 private:
  static double Seconds(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double>(end - begin).count();
  }
  void Report(Clock::time_point now) {
    if (!report_) return;
    const double done = static_cast<double>(progress_.bytes_done);
    const double left = static_cast<double>(progress_.bytes_total) - done;
    progress_.seconds_left = done > 0 ? Seconds(start_, now) * left / done : -1;
    report_(progress_);
  }

  const std::function<void(const PrepareProgress&)>& report_;
  Clock::time_point start_;
  Clock::time_point last_;
  PrepareProgress progress_;
};

void CheckOptions(const PrepareOptions& options) {
  if (options.inputs.empty()) throw ConfigError("prepare needs --input");
  if (!options.output.ends_with(kExtension) || options.output.size() == kExtension.size()) {
    throw ConfigError(fmt::format("--output {}: the name must end with .hearth", options.output));
  }
  if (options.tokenizer != "byte") {
    throw ConfigError(fmt::format(
        "--tokenizer {}: only the tokenizer 'byte' is built so far, tokenizer folders are not",
        options.tokenizer));
  }
  if (options.holdout && !(*options.holdout > 0.0 && *options.holdout < 1.0)) {
    throw ConfigError(
        fmt::format("--holdout {}: must be a fraction between 0 and 1", *options.holdout));
  }
  if (options.max_bytes < 0 || options.holdout_every < 0 || options.holdout_every == 1) {
    throw ConfigError(
        fmt::format("--max-bytes {} and --holdout-every {}: the first must not be "
                    "negative, the second must be at least 2",
                    options.max_bytes, options.holdout_every));
  }
  if (!options.deduplicate_paragraphs && (options.max_bytes > 0 || options.holdout_every > 0)) {
    throw ConfigError("--max-bytes and --holdout-every go with --deduplicate paragraphs");
  }
  if (options.deduplicate_paragraphs && options.holdout) {
    throw ConfigError("with --deduplicate paragraphs use --holdout-every instead of --holdout");
  }
}

// What the writers need to know before the first token.
HearthWriterOptions WriterOptions(const PrepareInputs& inputs, std::string path) {
  HearthWriterOptions options;
  options.path = std::move(path);
  if (inputs.is_text()) {
    options.vocab_size = kByteVocabulary;
    options.tokenizer_name = "byte";
    options.tokenizer_hash = Xxh3Hash128(std::string_view("byte: id = byte, 256 ids"));
    return options;
  }
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

void AppendBytes(HearthWriter& writer, std::string_view text) {
  std::vector<int32_t> tokens;
  for (size_t begin = 0; begin < text.size(); begin += kAppendChunk) {
    const std::string_view piece = text.substr(begin, kAppendChunk);
    tokens.assign(piece.size(), 0);
    std::transform(piece.begin(), piece.end(), tokens.begin(), [](char byte) {
      return static_cast<int32_t>(static_cast<unsigned char>(byte));
    });
    writer.Append(tokens);
  }
}

// Tokens [begin, end) of a document, counted from its first.
void AppendPart(HearthWriter& writer, const InputDocument& document, int64_t begin, int64_t end) {
  if (document.tokens == nullptr) {
    AppendBytes(writer,
                document.text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
  } else {
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
      writer.Append(tokens, mask);
    }
  }
  writer.EndDocument();
}

// Which part of each document is held out; chosen when the documents have been counted.
class HoldoutChoice {
 public:
  HoldoutChoice() = default;
  HoldoutChoice(double fraction, int64_t documents) : fraction_(fraction) {
    const int64_t wanted = std::llround(fraction * static_cast<double>(documents));
    whole_ = std::min(wanted, documents - 1);
    if (whole_ > 0) order_.emplace(Permutation::Key{.use = PermutationUse::kHoldout}, documents);
  }

  // The first token held out of document `index` of `length` tokens: 0 all, length none.
  int64_t Cut(int64_t index, int64_t length) const {
    if (order_) return (*order_)(index) < whole_ ? 0 : length;
    return length - std::llround(fraction_ * static_cast<double>(length));
  }

 private:
  double fraction_ = 0;
  int64_t whole_ = 0;
  std::optional<Permutation> order_;
};

struct Shards {
  std::unique_ptr<HearthWriter> train;
  std::unique_ptr<HearthWriter> holdout;  // or null
};

int64_t WriteSplit(const PrepareInputs& inputs, const HoldoutChoice& choice, int64_t bytes_before,
                   ProgressReporter& progress, const Shards& shards) {
  int64_t documents = 0;
  inputs.ForEachDocument([&](const InputDocument& document, int64_t bytes_done) {
    const int64_t length = document.length();
    const int64_t cut = shards.holdout ? choice.Cut(documents, length) : length;
    AppendPart(*shards.train, document, 0, cut);
    if (cut < length) AppendPart(*shards.holdout, document, cut, length);
    progress.Update(bytes_before + bytes_done, ++documents);
    return true;
  });
  return documents;
}

void PrepareDocuments(const PrepareOptions& options, const PrepareInputs& inputs,
                      const Shards& shards) {
  const int64_t passes = options.holdout ? 2 : 1;
  ProgressReporter progress(options, passes * inputs.bytes());
  HoldoutChoice choice;
  int64_t counted = -1;
  if (options.holdout) {
    counted = 0;
    inputs.ForEachDocument([&](const InputDocument&, int64_t bytes_done) {
      progress.Update(bytes_done, ++counted);
      return true;
    });
    choice = HoldoutChoice(*options.holdout, counted);
  }
  const int64_t written =
      WriteSplit(inputs, choice, (passes - 1) * inputs.bytes(), progress, shards);
  if (counted >= 0 && written != counted) {
    throw IoError(fmt::format("the inputs changed while they were read: {} documents, then {}",
                              counted, written));
  }
  progress.Finish();
}

int64_t PrepareParagraphs(const PrepareOptions& options, const PrepareInputs& inputs,
                          const Shards& shards) {
  if (!inputs.is_text()) {
    throw ConfigError("--deduplicate paragraphs needs text or JSONL, not token files");
  }
  ProgressReporter progress(options, inputs.bytes());
  ParagraphFilter filter({.max_bytes = options.max_bytes, .holdout_every = options.holdout_every});
  int64_t documents = 0;
  inputs.ForEachDocument([&](const InputDocument& document, int64_t bytes_done) {
    const ParagraphFilter::Split split = filter.Add(document.text);
    AppendBytes(*shards.train, split.train);
    shards.train->EndDocument();
    if (shards.holdout) {
      AppendBytes(*shards.holdout, split.holdout);
      shards.holdout->EndDocument();
    }
    progress.Update(bytes_done, ++documents);
    return !filter.full();
  });
  progress.Finish();
  return filter.dropped();
}

PreparedShard Describe(const HearthWriter& writer, std::string path) {
  if (writer.token_count() == 0) {
    throw ConfigError(
        fmt::format("{}: error: nothing would be written to it; give more input", path));
  }
  return {.path = std::move(path),
          .documents = writer.document_count(),
          .tokens = writer.token_count()};
}

}  // namespace

std::string HoldoutPath(const std::string& output) {
  return output.substr(0, output.size() - kExtension.size()) + "-holdout" + std::string(kExtension);
}

PrepareResult Prepare(const PrepareOptions& options) {
  CheckOptions(options);
  const PrepareInputs inputs(options);
  const std::filesystem::path folder = std::filesystem::path(options.output).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    throw IoError(fmt::format("{}: error: cannot be made: {}", folder.string(), error.message()));
  }
  Shards shards;
  shards.train = std::make_unique<HearthWriter>(WriterOptions(inputs, options.output));
  if (options.holdout || options.holdout_every > 0) {
    shards.holdout =
        std::make_unique<HearthWriter>(WriterOptions(inputs, HoldoutPath(options.output)));
  }
  PrepareResult result;
  result.files = inputs.files();
  if (options.deduplicate_paragraphs) {
    result.paragraphs_dropped = PrepareParagraphs(options, inputs, shards);
  } else {
    PrepareDocuments(options, inputs, shards);
  }
  result.train = Describe(*shards.train, options.output);
  if (shards.holdout) result.holdout = Describe(*shards.holdout, HoldoutPath(options.output));
  shards.train->Seal();
  if (shards.holdout) shards.holdout->Seal();
  shards.train->Publish();
  if (shards.holdout) shards.holdout->Publish();
  return result;
}

}  // namespace hearth
