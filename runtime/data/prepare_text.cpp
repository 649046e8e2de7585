// The text pass of `hearth prepare`: threads encode chunks, one thread writes them in order and
// notes how far it is.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/ordered_workers.h"
#include "runtime/data/prepare_passes.h"
#include "runtime/data/prepare_state.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;
using Workers = OrderedWorkers<InputChunk, EncodedChunk>;

// Saving may take this share of the time.
constexpr double kSavingShare = 0.05;

// Held while this process writes the unfinished file; a process's end releases it.
class OutputLock {
 public:
  OutputLock(const std::string& path, const std::string& output)
      : descriptor_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666)) {
    if (descriptor_ < 0) {
      throw IoError(
          fmt::format("{}: error: cannot be opened for writing: {}", path, std::strerror(errno)));
    }
    if (flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    close(descriptor_);
    throw ConfigError(
        fmt::format("{}: error: another hearth prepare is writing this; wait for it, or choose "
                    "another --output",
                    output));
  }
  ~OutputLock() { close(descriptor_); }
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  int descriptor_;
};

// Everything that decides the output, and whether the inputs are the same files.
Hash128 Identity(const TextPass& pass) {
  const PrepareOptions& options = pass.options;
  const EncodingOptions& encoding = pass.encoding;
  const TokenizerHash& tokenizer = encoding.tokenizer->hash();
  std::string text = fmt::format(
      "{:016x}{:016x} {} {} {} {} {} {} {} {} {} [{}] [{}] {} {}\n", tokenizer.high, tokenizer.low,
      options.field, encoding.chat_shape ? ChatShapeName(*encoding.chat_shape) : "text",
      ChatFormatName(encoding.chat_format), encoding.loss_on_all, encoding.has_loss_mask,
      encoding.parse_special, encoding.max_length, static_cast<int>(encoding.too_long),
      options.pack, fmt::join(encoding.document_start, ","), fmt::join(encoding.document_end, ","),
      options.holdout.value_or(0), pass.train.writer.tokenizer_name);
  for (const PrepareInputs::Input& input : pass.inputs.inputs()) {
    struct stat status {};
    stat(input.path.c_str(), &status);
    text += fmt::format("{} {} {} {}.{}\n", input.path, static_cast<int>(input.format), input.bytes,
                        status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  return Xxh3Hash128(std::string_view(text));
}

TextCuts CutsFor(const Tokenizer& tokenizer) {
  if (tokenizer.is_byte_tokenizer()) return TextCuts::kAnywhere;
  // Some put a space before every text.
  const std::vector<int32_t> letter = tokenizer.Encode("a");
  return tokenizer.Decode(letter) == "a" ? TextCuts::kBetweenLines : TextCuts::kNowhere;
}

class TextRun {
 public:
  explicit TextRun(const TextPass& pass)
      : pass_(pass),
        options_(pass.options),
        lock_(pass.train.writer.temporary_path, options_.output),
        state_path_(options_.output + ".partial-state"),
        identity_(Identity(pass)),
        passes_(options_.holdout ? 2 : 1),
        progress_(options_, passes_ * pass.inputs.bytes()) {}
  ~TextRun() { unlink(state_path_.c_str()); }
  TextRun(const TextRun&) = delete;
  TextRun& operator=(const TextRun&) = delete;

  PrepareResult Run();

 private:
  void Restore();
  void CountDocuments();
  void Consume(const EncodedChunk& chunk);
  // Documents that end in this chunk, or begin in it, go where the choice says.
  void Write(const EncodedChunk& chunk, int64_t begin, int64_t end);
  void SaveSometimes();
  void SaveIn(double seconds) {
    next_save_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(seconds));
  }

  const TextPass& pass_;
  const PrepareOptions& options_;
  const OutputLock lock_;
  const std::string state_path_;
  const Hash128 identity_;
  const int64_t passes_;
  ProgressReporter progress_;
  std::optional<ShardBuilder> train_;
  std::optional<ShardBuilder> holdout_;
  HoldoutChoice choice_;
  PrepareState state_;  // but for the shards
  int64_t resumed_bytes_ = 0;
  Clock::time_point next_save_;
};

void TextRun::Restore() {
  std::optional<PrepareState> saved = ReadPrepareState(state_path_, identity_);
  if (saved && saved->holdout.has_value() == pass_.holdout.has_value()) {
    try {
      train_.emplace(pass_.train, std::move(saved->train));
      if (pass_.holdout) holdout_.emplace(*pass_.holdout, std::move(*saved->holdout));
      state_ = {.cursor = saved->cursor,
                .bytes_done = saved->bytes_done,
                .documents = saved->documents,
                .counted = saved->counted,
                .truncated = saved->truncated,
                .dropped = saved->dropped};
      resumed_bytes_ = saved->bytes_done;
      return;
    } catch (const IoError&) {
      // An unfinished file is gone or too short: everything once more.
      train_.reset();
      holdout_.reset();
    }
  }
  train_.emplace(pass_.train);
  if (pass_.holdout) holdout_.emplace(*pass_.holdout);
}

void TextRun::CountDocuments() {
  state_.counted = 0;
  int64_t bytes = 0;
  const auto encoder = std::make_shared<const ChunkEncoder>(pass_.encoding);
  std::vector<Workers::Work> works(
      static_cast<size_t>(std::max(options_.threads, 1)),
      [encoder](const InputChunk& chunk) { return encoder->Count(chunk); });
  ChunkCutter cutter(pass_.inputs,
                     {.chunk_bytes = options_.chunk_bytes, .cuts = TextCuts::kAnywhere});
  Workers(std::move(works))
      .Run([&] { return cutter.Next(); },
           [&](const EncodedChunk& chunk) {
             state_.counted += std::ssize(chunk.document_ends);
             bytes += chunk.bytes;
             progress_.Update(bytes, state_.counted);
           });
}

void TextRun::Write(const EncodedChunk& chunk, int64_t begin, int64_t end) {
  const auto append = [&](ShardBuilder& shard, int64_t first, int64_t last) {
    const auto offset = static_cast<size_t>(first);
    const auto count = static_cast<size_t>(last - first);
    shard.Append(std::span(chunk.tokens).subspan(offset, count),
                 chunk.counts.empty() ? std::span<const uint8_t>()
                                      : std::span(chunk.counts).subspan(offset, count));
  };
  int64_t cut = end;
  if (holdout_ && choice_.cuts_tails() && !chunk.is_jsonl) {
    cut = chunk.held_out ? begin : end;
  } else if (holdout_) {
    // Whole documents: all or nothing of each of their parts.
    cut = begin + choice_.Cut(state_.documents, end - begin);
  }
  append(*train_, begin, cut);
  if (cut < end) append(*holdout_, cut, end);
}

void TextRun::Consume(const EncodedChunk& chunk) {
  int64_t begin = 0;
  for (const int64_t end : chunk.document_ends) {
    Write(chunk, begin, end);
    train_->EndDocument();
    if (holdout_) holdout_->EndDocument();
    ++state_.documents;
    begin = end;
  }
  if (begin < std::ssize(chunk.tokens)) Write(chunk, begin, std::ssize(chunk.tokens));
  state_.cursor = chunk.after;
  state_.bytes_done += chunk.bytes;
  state_.truncated += chunk.truncated;
  state_.dropped += chunk.dropped;
  SaveSometimes();
  progress_.Update((passes_ - 1) * pass_.inputs.bytes() + state_.bytes_done, state_.documents);
}

void TextRun::SaveSometimes() {
  const Clock::time_point begin = Clock::now();
  if (begin < next_save_) return;
  PrepareState state = state_;
  state.train = train_->Checkpoint();
  if (holdout_) state.holdout = holdout_->Checkpoint();
  WritePrepareState(state_path_, identity_, state);
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  if (options_.save_interval_s > 0) {
    SaveIn(std::max(options_.save_interval_s, took / kSavingShare));
  }
}

PrepareResult TextRun::Run() {
  Restore();
  if (options_.holdout) {
    if (state_.counted < 0) CountDocuments();
    choice_ = HoldoutChoice(*options_.holdout, state_.counted);
    if (choice_.cuts_tails() && (pass_.encoding.chat_shape || options_.pack > 0)) {
      throw ConfigError(fmt::format(
          "--holdout {}: of {} documents not one would be held out; give more, or a larger share",
          *options_.holdout, state_.counted));
    }
  }
  progress_.SkipTo(resumed_bytes_ > 0 ? (passes_ - 1) * pass_.inputs.bytes() + resumed_bytes_ : 0);
  SaveIn(options_.save_interval_s);
  std::vector<Workers::Work> works;
  for (int i = 0; i < std::max(options_.threads, 1); ++i) {
    const auto encoder = std::make_shared<ChunkEncoder>(pass_.encoding);
    works.emplace_back([encoder](const InputChunk& chunk) { return encoder->Encode(chunk); });
  }
  ChunkCutter cutter(pass_.inputs,
                     {.chunk_bytes = options_.chunk_bytes,
                      .cuts = CutsFor(*pass_.encoding.tokenizer),
                      .held_out_tail = choice_.cuts_tails() ? *options_.holdout : 0},
                     state_.cursor);
  Workers(std::move(works))
      .Run([&] { return cutter.Next(); }, [&](const EncodedChunk& chunk) { Consume(chunk); });
  if (state_.counted >= 0 && !choice_.cuts_tails() && state_.documents != state_.counted) {
    throw IoError(fmt::format("the inputs changed while they were read: {} documents, then {}",
                              state_.counted, state_.documents));
  }
  progress_.Finish();
  PrepareResult result;
  result.truncated = state_.truncated;
  result.dropped = state_.dropped;
  result.resumed_bytes = resumed_bytes_;
  PublishShards(*train_, holdout_ ? &*holdout_ : nullptr, &result);
  return result;
}

}  // namespace

PrepareResult PrepareText(const TextPass& pass) { return TextRun(pass).Run(); }

}  // namespace hearth
