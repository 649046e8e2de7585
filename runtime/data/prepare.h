// `hearth prepare`: text, JSONL and foreign token files to .hearth shards.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/token_layout.h"

namespace hearth {

// What the inputs are. kAuto: a token format by its magic; .jsonl and .ndjson; any other file
// without a zero byte in its first 64 KiB is text.
enum class InputFormat { kAuto, kText, kJsonl, kLlmc, kNanogpt, kMegatron, kLlmq };

// "auto", "text", "jsonl", "llmc", "nanogpt", "megatron", "llmq"; else ConfigError naming them.
InputFormat ParseInputFormat(std::string_view name);

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
  std::string tokenizer = "byte";
  std::string field = "text";  // of a JSONL line
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

  std::function<void(const PrepareProgress&)> progress;  // called at most every 200 ms, and last
};

struct PreparedShard {
  std::string path;
  int64_t documents = 0;
  int64_t tokens = 0;
};

struct PrepareResult {
  PreparedShard train;
  std::optional<PreparedShard> holdout;
  int64_t files = 0;
  int64_t paragraphs_dropped = 0;
};

// "data/a.hearth" -> "data/a-holdout.hearth".
std::string HoldoutPath(const std::string& output);

// The shards depend on the inputs' bytes and names' order and on the options alone. Throws
// ConfigError (usage; FILE:LINE:COLUMN for a bad JSONL line) or IoError; then no output file has
// appeared or changed.
PrepareResult Prepare(const PrepareOptions& options);

}  // namespace hearth
