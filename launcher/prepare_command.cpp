#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/program_options/value_semantic.hpp>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/supervisor.h"
#include "runtime/data/prepare.h"
#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()(
      "input",
      po::value<std::vector<std::string>>()->multitoken()->required()->value_name("GLOB..."),
      "files to read; shell patterns, required")(
      "output", po::value<std::string>()->required()->value_name("F.hearth"),
      "token shard to write, required")(
      "format", po::value<std::string>()->default_value("auto"),
      "of the input: auto | text | jsonl | llmc | nanogpt | megatron | llmq")(
      "tokenizer", po::value<std::string>()->default_value("byte")->value_name("FOLDER"),
      "a folder with tokenizer.json; byte: every byte is a token")(
      "field", po::value<std::string>()->default_value("text"),
      "of a JSONL line that holds the text")(
      "chat", po::value<std::string>()->default_value("auto"),
      "shape of JSONL chats: auto | none | messages | sharegpt | alpaca")(
      "chat-format", po::value<std::string>()->default_value("auto"),
      "of chats: auto (the tokenizer folder's) | chatml | llama3 | llama3.1 | qwen2.5 | qwen3")(
      "loss", po::value<std::string>()->default_value("assistant"),
      "which words of chats count: assistant | all")(
      "max-length", po::value<int64_t>()->default_value(0)->value_name("N"),
      "tokens of a JSONL document at most; 0: any number, or that of --pack")(
      "too-long", po::value<std::string>()->default_value("truncate"),
      "longer JSONL documents: truncate | drop | error")(
      "pack", po::value<int64_t>()->default_value(0)->value_name("N"),
      "lay whole JSONL documents into samples of N tokens, the run's sequence_len; 0: no")(
      "parse-special", po::bool_switch(),
      "names of special tokens in the input become those tokens")(
      "document-end", po::value<std::string>()->default_value("auto")->value_name("TOKEN"),
      "behind each document that is no chat: auto | none | a token's text")(
      "threads", po::value<int>()->default_value(0)->value_name("N"), "0: one for each core")(
      "holdout", po::value<double>()->value_name("FRACTION"),
      "also write this share of the documents to F-holdout.hearth")(
      "deduplicate", po::value<std::string>()->value_name("paragraphs"),
      "paragraphs: drop paragraphs seen before")(
      "max-bytes", po::value<int64_t>()->default_value(0),
      "with --deduplicate: most bytes of text; 0: no limit")(
      "holdout-every", po::value<int64_t>()->default_value(0),
      "with --deduplicate: every n-th paragraph goes to F-holdout.hearth; 0: none");
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

void ShowProgress(const PrepareProgress& progress) {
  const double share = progress.bytes_total == 0 ? 1.0
                                                 : static_cast<double>(progress.bytes_done) /
                                                       static_cast<double>(progress.bytes_total);
  std::string line =
      fmt::format("\rprepare {:3.0f} %  {} documents", 100 * share, progress.documents);
  if (progress.seconds_left >= 0) line += "  ETA " + FormatDuration(progress.seconds_left);
  fmt::print(stderr, "{}\x1b[K", line);
}

bool ReadLoss(const std::string& what) {
  if (what != "assistant" && what != "all") {
    FailUsage(fmt::format("--loss {}: unknown; write assistant or all", what));
  }
  return what == "all";
}

PrepareOptions ReadOptions(const Invocation& invocation) {
  PrepareOptions options;
  options.inputs = invocation.Get<std::vector<std::string>>("input");
  options.output = invocation.Get<std::string>("output");
  options.format = ParseInputFormat(invocation.Get<std::string>("format"));
  options.tokenizer = invocation.Get<std::string>("tokenizer");
  options.field = invocation.Get<std::string>("field");
  options.chat = ParseChatInput(invocation.Get<std::string>("chat"));
  if (const auto& format = invocation.Get<std::string>("chat-format"); format != "auto") {
    options.chat_format = ParseChatFormat(format);
  }
  options.loss_on_all = ReadLoss(invocation.Get<std::string>("loss"));
  options.max_length = invocation.Get<int64_t>("max-length");
  options.too_long = ParseTooLong(invocation.Get<std::string>("too-long"));
  options.pack = invocation.Get<int64_t>("pack");
  options.parse_special = invocation.Get<bool>("parse-special");
  options.document_end = invocation.Get<std::string>("document-end");
  options.threads = invocation.Get<int>("threads");
  if (options.threads == 0) {
    options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (invocation.Has("holdout")) options.holdout = invocation.Get<double>("holdout");
  options.max_bytes = invocation.Get<int64_t>("max-bytes");
  options.holdout_every = invocation.Get<int64_t>("holdout-every");
  if (options.max_bytes < 0) FailUsage("--max-bytes must not be negative");
  if (options.holdout_every < 0) FailUsage("--holdout-every must not be negative");
  if (invocation.Has("deduplicate")) {
    const std::string& what = invocation.Get<std::string>("deduplicate");
    if (what != "paragraphs") {
      FailUsage(fmt::format("--deduplicate {}: unknown; write --deduplicate paragraphs", what));
    }
    options.deduplicate_paragraphs = true;
  } else if (options.max_bytes > 0 || options.holdout_every > 0) {
    FailUsage("--max-bytes and --holdout-every need --deduplicate paragraphs");
  }
  if (isatty(STDERR_FILENO) != 0) options.progress = ShowProgress;
  return options;
}

void PrintShard(const PreparedShard& shard) {
  fmt::print("{}: {} documents, {} tokens", shard.path, shard.documents, shard.tokens);
  if (shard.padding > 0) fmt::print(", {} of padding", shard.padding);
  fmt::print("\n");
}

int Run(const Invocation& invocation) {
  const PrepareOptions options = ReadOptions(invocation);
  const PrepareResult result = Prepare(options);
  if (options.progress) fmt::print(stderr, "\r\x1b[K");
  fmt::print("{} files read", result.files);
  if (options.deduplicate_paragraphs) {
    fmt::print(", {} repeated paragraphs dropped", result.paragraphs_dropped);
  }
  if (result.chat_format) fmt::print(", chats as {}", ChatFormatName(*result.chat_format));
  if (result.truncated > 0) fmt::print(", {} documents truncated", result.truncated);
  if (result.dropped > 0) fmt::print(", {} documents dropped", result.dropped);
  if (result.resumed_bytes > 0) fmt::print(", {} bytes done before", result.resumed_bytes);
  fmt::print("\n");
  PrintShard(result.train);
  if (result.holdout) PrintShard(*result.holdout);
  return kExitDone;
}

}  // namespace

Command MakePrepareCommand() {
  return {
      .name = "prepare",
      .file = "",
      .summary = "turn text and token files of other programs into a .hearth token shard",
      .details =
          "Text files are one document each, JSONL files one a line: text, or a chat. A killed\n"
          "prepare goes on when the same command is given again.",
      .takes_run_keys = false,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
