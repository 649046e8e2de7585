#include "runtime/data/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "kernels/core/error.h"
#include "runtime/data/prepare_passes.h"
#include "runtime/text/model_folder.h"

namespace hearth {

namespace {

constexpr std::string_view kExtension = ".hearth";

void CheckOptions(const PrepareOptions& options) {
  if (options.inputs.empty()) throw ConfigError("prepare needs --input");
  if (!options.output.ends_with(kExtension) || options.output.size() == kExtension.size()) {
    throw ConfigError(fmt::format("--output {}: the name must end with .hearth", options.output));
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
  constexpr int64_t kLongest = int64_t{1} << 30;
  for (const auto& [name, value] :
       {std::pair("--max-length", options.max_length), std::pair("--pack", options.pack)}) {
    if (value < 0 || value == 1 || value > kLongest) {
      throw ConfigError(fmt::format("{} {}: must be 0, or from 2 to 2^30 tokens", name, value));
    }
  }
  if (options.pack > 0 && options.max_length > options.pack) {
    throw ConfigError(fmt::format("--max-length {}: more than the {} of --pack", options.max_length,
                                  options.pack));
  }
  if (options.threads < 1 || options.threads > 4096) {
    throw ConfigError(fmt::format("--threads {}: must be 1 to 4096", options.threads));
  }
}

// What is given for JSONL or chats alone must not be passed over.
void CheckFits(const PrepareOptions& options, const PrepareInputs& inputs, bool is_chat) {
  const bool all_jsonl = std::ranges::all_of(
      inputs.inputs(),
      [](const PrepareInputs::Input& input) { return input.format == InputFormat::kJsonl; });
  if (!all_jsonl && (options.max_length > 0 || options.pack > 0)) {
    throw ConfigError("--max-length and --pack are for JSONL alone; leave them out");
  }
  if (!is_chat && (options.chat_format || options.loss_on_all || options.chat.shape)) {
    throw ConfigError(
        "--chat, --chat-format and --loss are for JSONL files of chats, which these are not; leave "
        "them out");
  }
  if (is_chat && !all_jsonl) {
    throw ConfigError("chats cannot be mixed with text files; prepare them apart");
  }
  if (options.deduplicate_paragraphs && (is_chat || options.max_length > 0 || options.pack > 0)) {
    throw ConfigError("--deduplicate paragraphs does not go with chats, --max-length or --pack");
  }
}

std::optional<ChatShape> FindChatShape(const PrepareOptions& options, const PrepareInputs& inputs) {
  const auto jsonl =
      std::ranges::find(inputs.inputs(), InputFormat::kJsonl, &PrepareInputs::Input::format);
  if (jsonl == inputs.inputs().end()) return std::nullopt;
  if (!options.chat.detect) return options.chat.shape;
  return DetectFileShape(jsonl->path, options.field);
}

std::vector<int32_t> DocumentEnd(const PrepareOptions& options, const Tokenizer& tokenizer) {
  if (options.document_end == "none") return {};
  if (options.document_end != "auto") {
    if (const auto id = tokenizer.TokenId(options.document_end)) return {*id};
    throw ConfigError(
        fmt::format("--document-end {}: the tokenizer has no such token", options.document_end));
  }
  if (tokenizer.is_byte_tokenizer()) return {};
  if (const auto id = FindEndOfText(tokenizer)) return {*id};
  throw ConfigError(fmt::format(
      "{}: error: no token that ends a text is known in this tokenizer; give --document-end TOKEN "
      "or none",
      options.tokenizer));
}

// The folder's own name, as the header of a shard has room for.
std::string TokenizerName(const PrepareOptions& options) {
  if (options.tokenizer == "byte") return "byte";
  std::filesystem::path path = std::filesystem::absolute(options.tokenizer).lexically_normal();
  if (!std::filesystem::is_directory(path) || !path.has_filename()) path = path.parent_path();
  return path.filename().string().substr(0, static_cast<size_t>(kMaxTokenizerName));
}

EncodingOptions MakeEncoding(const PrepareOptions& options, const PrepareInputs& inputs) {
  EncodingOptions encoding;
  const bool bytes = options.tokenizer == "byte";
  if (!bytes && !std::filesystem::exists(options.tokenizer)) {
    throw ConfigError(fmt::format(
        "--tokenizer {}: there is no such folder; give byte, or a folder with a tokenizer.json",
        options.tokenizer));
  }
  encoding.tokenizer = bytes ? Tokenizer::MakeByteTokenizer() : Tokenizer::Load(options.tokenizer);
  encoding.chat_shape = FindChatShape(options, inputs);
  CheckFits(options, inputs, encoding.chat_shape.has_value());
  if (encoding.chat_shape && bytes) {
    throw ConfigError(
        "chats need a tokenizer with the tokens of their format: give --tokenizer FOLDER, or "
        "--chat none with the --field to take as text");
  }
  if (encoding.chat_shape) {
    encoding.chat_format =
        options.chat_format ? *options.chat_format : FindChatFormat(options.tokenizer);
  } else {
    const std::span<const int32_t> start = encoding.tokenizer->prefix_tokens();
    encoding.document_start.assign(start.begin(), start.end());
    encoding.document_end = DocumentEnd(options, *encoding.tokenizer);
  }
  encoding.field = options.field;
  encoding.loss_on_all = options.loss_on_all;
  encoding.has_loss_mask =
      options.pack > 0 || (encoding.chat_shape.has_value() && !options.loss_on_all);
  encoding.parse_special = options.parse_special;
  encoding.max_length = options.max_length > 0 ? options.max_length : options.pack;
  encoding.too_long = options.too_long;
  return encoding;
}

ShardBuilder::Options ShardOptions(const PrepareOptions& options, const EncodingOptions& encoding,
                                   const std::string& path) {
  const Tokenizer& tokenizer = *encoding.tokenizer;
  ShardBuilder::Options shard;
  shard.writer.path = path;
  shard.writer.bytes_per_token = tokenizer.vocab_size() <= 65536 ? 2 : 4;
  shard.writer.vocab_size = tokenizer.vocab_size();
  shard.writer.tokenizer_name = TokenizerName(options);
  shard.writer.tokenizer_hash = {.low = tokenizer.hash().low, .high = tokenizer.hash().high};
  shard.writer.has_loss_mask = encoding.has_loss_mask;
  if (!options.deduplicate_paragraphs) shard.writer.temporary_path = path + ".partial";
  shard.pack = options.pack;
  shard.writer.sample_tokens = options.pack;
  if (options.pack > 0) shard.padding_token = FindEndOfText(tokenizer).value_or(0);
  return shard;
}

}  // namespace

std::string HoldoutPath(const std::string& output) {
  return output.substr(0, output.size() - kExtension.size()) + "-holdout" + std::string(kExtension);
}

ChatInput ParseChatInput(std::string_view name) {
  if (name == "auto") return {};
  if (name == "none") return {.detect = false};
  if (const auto shape = ParseChatShape(name)) return {.detect = false, .shape = shape};
  throw ConfigError(
      fmt::format("'{}' is no shape of chats; use auto, none, messages, sharegpt or alpaca", name));
}

TooLong ParseTooLong(std::string_view name) {
  if (name == "truncate") return TooLong::kTruncate;
  if (name == "drop") return TooLong::kDrop;
  if (name == "error") return TooLong::kError;
  throw ConfigError(fmt::format(
      "'{}' does not say what happens to long documents; use truncate, drop or error", name));
}

PrepareResult Prepare(const PrepareOptions& options) {
  CheckOptions(options);
  const PrepareInputs inputs(options);
  const bool is_text = inputs.is_text();
  if (!is_text && options.deduplicate_paragraphs) {
    throw ConfigError("--deduplicate paragraphs needs text or JSONL, not token files");
  }
  if (!is_text && options.tokenizer != "byte") {
    throw ConfigError("--tokenizer is for text; token files are taken as they are");
  }
  std::optional<TextPass> pass;
  if (is_text) {
    EncodingOptions encoding = MakeEncoding(options, inputs);
    pass.emplace(TextPass{.options = options,
                          .inputs = inputs,
                          .encoding = encoding,
                          .train = ShardOptions(options, encoding, options.output)});
    if (options.holdout || options.holdout_every > 0) {
      pass->holdout = ShardOptions(options, encoding, HoldoutPath(options.output));
    }
  } else {
    CheckFits(options, inputs, false);
  }
  const std::filesystem::path folder = std::filesystem::path(options.output).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    throw IoError(fmt::format("{}: error: cannot be made: {}", folder.string(), error.message()));
  }
  PrepareResult result = !is_text                         ? PrepareTokens(options, inputs)
                         : options.deduplicate_paragraphs ? PrepareParagraphs(*pass)
                                                          : PrepareText(*pass);
  result.files = inputs.files();
  if (pass && pass->encoding.chat_shape) result.chat_format = pass->encoding.chat_format;
  return result;
}

}  // namespace hearth
