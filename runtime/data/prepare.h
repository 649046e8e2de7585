// `hearth prepare`: text, JSONL and foreign token files to .hearth shards.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/chat_format.h"
#include "runtime/text/chat_reader.h"

namespace hearth {

// What the inputs are. kAuto: a token format by its magic; .jsonl and .ndjson; any other file
// without a zero byte in its first 64 KiB is text.
enum class InputFormat { kAuto, kText, kJsonl, kLlmc, kNanogpt, kMegatron, kLlmq };

// "auto", "text", "jsonl", "llmc", "nanogpt", "megatron", "llmq"; else ConfigError naming them.
InputFormat ParseInputFormat(std::string_view name);

// Whether JSONL lines are chats, and of which shape. kAuto: by the keys of the first line of the
// first JSONL file; a line that has the text field is text.
struct ChatInput {
  bool detect = true;
  std::optional<ChatShape> shape;  // without detection: nullopt is text

  bool operator==(const ChatInput&) const = default;
};

// "auto", "none", "messages", "sharegpt", "alpaca"; else ConfigError naming them.
ChatInput ParseChatInput(std::string_view name);

// What happens to a JSONL document of more tokens than max_length.
enum class TooLong { kTruncate, kDrop, kError };

// "truncate", "drop", "error"; else ConfigError naming them.
TooLong ParseTooLong(std::string_view name);

struct PrepareProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  int64_t documents = 0;
  double seconds_left = -1;  // < 0: not known yet
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // globs; ExpandGlobs
  std::string output;               // ends with .hearth
  InputFormat format = InputFormat::kAuto;
  std::string tokenizer = "byte";  // or a folder with a tokenizer.json, or such a file
  std::string field = "text";      // of a JSONL line that is text

  ChatInput chat;
  std::optional<ChatFormat> chat_format;  // nullopt: that of the tokenizer's folder
  bool loss_on_all = false;               // of chats; else the assistant's words alone count
  // Tokens of a JSONL document at most; 0: any number, or `pack`. A truncated chat in which no
  // word of the assistant is left is dropped.
  int64_t max_length = 0;
  TooLong too_long = TooLong::kTruncate;
  // Lays whole JSONL documents into samples of so many tokens, filled up with padding that does
  // not count (ShardBuilder), so that no document is cut when sequence_len is this; 0: no.
  int64_t pack = 0;
  // Whether names of special tokens in the input become those tokens; else they are text.
  bool parse_special = false;
  // Behind each document that is no chat: "auto" (FindEndOfText; nothing with bytes), "none", or a
  // token's text. In front comes what the tokenizer itself puts before a text.
  std::string document_end = "auto";

  int threads = 1;                // change no byte of the output
  int64_t chunk_bytes = 1 << 19;  // of text that a thread takes at a time; changes no byte either
  // Between two states that a killed prepare goes on from, and at least 20 times what saving takes;
  // 0: after every chunk.
  double save_interval_s = 30;
  // Fraction in (0, 1) for F-holdout.hearth. round(fraction * documents) whole documents, chosen by
  // a fixed permutation of their indices; when that is none (a single document, or few), the tail
  // of every document.
  std::optional<double> holdout;

  // The quickstart's corpus: --deduplicate paragraphs. A document's text is cut at blank lines;
  // paragraphs seen before (whitespace around them ignored) are dropped; what is kept of a
  // document is joined by blank lines and stays one document.
  bool deduplicate_paragraphs = false;
  int64_t max_bytes = 0;  // with it: stop before the paragraph that would exceed this; 0: no limit
  int64_t holdout_every =
      0;  // with it: every n-th paragraph kept goes to F-holdout.hearth; 0: none

  std::function<void(const PrepareProgress&)>
      progress;  // called at most at this interval, and last
  double progress_interval_s = 0.2;
};

struct PreparedShard {
  std::string path;
  int64_t documents = 0;
  int64_t tokens = 0;   // without padding
  int64_t padding = 0;  // tokens
};

struct PrepareResult {
  PreparedShard train;
  std::optional<PreparedShard> holdout;
  int64_t files = 0;
  int64_t paragraphs_dropped = 0;
  std::optional<ChatFormat> chat_format;  // of chats
  int64_t truncated = 0;                  // JSONL documents beyond max_length
  int64_t dropped = 0;
  int64_t resumed_bytes = 0;  // of the input that an earlier, killed prepare had done
};

// "data/a.hearth" -> "data/a-holdout.hearth".
std::string HoldoutPath(const std::string& output);

// The shards depend on the inputs' bytes and names' order and on the options alone. Throws
// ConfigError (usage; FILE:LINE:COLUMN for a bad JSONL line) or IoError; then no output file has
// appeared or changed.
//
// Text and JSONL are written to OUTPUT.partial, with OUTPUT.partial-state saying how far. Whoever
// is killed leaves them; the same inputs (by path, size and time of change) with the same options
// and tokenizer go on from there, any others begin anew. A second prepare of the same output is
// refused.
PrepareResult Prepare(const PrepareOptions& options);

}  // namespace hearth
