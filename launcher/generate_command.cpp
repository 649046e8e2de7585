#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"
#include "runtime/text/chat_encoder.h"
#include "runtime/text/model_folder.h"
#include "runtime/text/tokenizer.h"
#include "runtime/train/generate_run.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("prompt", po::value<std::string>()->value_name("TEXT"),
                         "text to go on from")(
      "chat", po::value<std::string>()->value_name("TEXT"),
      "a user's message to answer, in the model's chat format")(
      "system", po::value<std::string>()->value_name("TEXT"), "with --chat: the system message")(
      "chat-format", po::value<std::string>()->default_value("auto"),
      "with --chat: auto | chatml | llama3 | llama3.1 | qwen2.5 | qwen3")(
      "tokenizer", po::value<std::string>()->value_name("FOLDER"),
      "a folder with tokenizer.json, when the model has none")(
      "prompt-ids", po::value<std::string>()->value_name("1,2,..."),
      "token ids to go on from; the new ones are printed as ids")(
      "max-tokens", po::value<int64_t>()->default_value(100), "most new tokens")(
      "temperature", po::value<double>()->default_value(1.0, "1"),
      "0: always the most likely token")("top-k", po::value<int64_t>()->default_value(0),
                                         "only the k most likely tokens; 0: all")(
      "top-p", po::value<double>()->default_value(1.0, "1"),
      "only the most likely tokens that together reach this probability; 1: all")(
      "seed", po::value<uint64_t>()->default_value(42), "of the choices");
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

std::vector<int32_t> ParseIds(std::string_view text) {
  std::vector<int32_t> ids;
  const std::string_view whole = text;
  while (true) {
    const size_t end = text.find(',');
    const std::string_view part = text.substr(0, end);
    int32_t id = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != part.data() + part.size() || id < 0) {
      FailUsage(fmt::format("--prompt-ids {}: '{}' is no token id; write 1,2,3", whole, part));
    }
    ids.push_back(id);
    if (end == std::string_view::npos) return ids;
    text.remove_prefix(end + 1);
  }
}

// How prompt and answer are text; without a tokenizer they are ids.
struct TextChoice {
  std::filesystem::path home;                  // of the tokenizer; empty: none
  std::shared_ptr<const Tokenizer> tokenizer;  // or null
};

TextChoice ReadTokenizer(const Invocation& invocation) {
  if (invocation.Has("prompt-ids")) {
    if (invocation.Has("tokenizer")) FailUsage("--prompt-ids takes no --tokenizer");
    return {};
  }
  TextChoice choice;
  if (invocation.Has("tokenizer")) {
    choice.home = invocation.Get<std::string>("tokenizer");
  } else if (const auto found = FindTokenizer(invocation.file)) {
    choice.home = *found;
  }
  if (!choice.home.empty()) {
    choice.tokenizer = Tokenizer::Load(choice.home);
  } else if (IsByteLevel(invocation.file)) {
    choice.tokenizer = Tokenizer::MakeByteTokenizer();
  } else {
    FailUsage(
        fmt::format("{} has no tokenizer.json; give --tokenizer FOLDER or --prompt-ids 1,2,...",
                    invocation.file));
  }
  return choice;
}

void CheckPromptOptions(const Invocation& invocation) {
  const int given = static_cast<int>(invocation.Has("prompt")) +
                    static_cast<int>(invocation.Has("prompt-ids")) +
                    static_cast<int>(invocation.Has("chat"));
  if (given != 1) FailUsage("give one of --prompt TEXT, --chat TEXT and --prompt-ids 1,2,...");
  const bool has_format = invocation.Get<std::string>("chat-format") != "auto";
  if (!invocation.Has("chat") && (invocation.Has("system") || has_format)) {
    FailUsage("--system and --chat-format go with --chat");
  }
}

void ReadChat(const Invocation& invocation, const TextChoice& text, GenerateOptions* options) {
  if (text.home.empty()) {
    FailUsage(
        fmt::format("--chat: {} is a model of bytes, which have no chat format; give --prompt",
                    invocation.file));
  }
  const auto& name = invocation.Get<std::string>("chat-format");
  const ChatFormat format = name == "auto" ? FindChatFormat(text.home) : ParseChatFormat(name);
  Chat chat;
  if (invocation.Has("system")) {
    chat.push_back({ChatRole::kSystem, invocation.Get<std::string>("system")});
  }
  chat.push_back({ChatRole::kUser, invocation.Get<std::string>("chat")});
  ChatEncoder encoder(text.tokenizer, format);
  EncodedChat encoded;
  encoder.Encode(chat, /*open_answer=*/true, &encoded);
  options->prompt = std::move(encoded.tokens);
  options->stop_ids = {encoder.end_of_turn()};
}

void ReadPrompt(const Invocation& invocation, const TextChoice& text, GenerateOptions* options) {
  if (invocation.Has("prompt-ids")) {
    options->prompt = ParseIds(invocation.Get<std::string>("prompt-ids"));
  } else if (invocation.Has("chat")) {
    ReadChat(invocation, text, options);
  } else {
    // What the tokenizer puts behind a text would end it.
    const std::span<const int32_t> prefix = text.tokenizer->prefix_tokens();
    options->prompt.assign(prefix.begin(), prefix.end());
    const std::vector<int32_t> ids = text.tokenizer->Encode(invocation.Get<std::string>("prompt"));
    options->prompt.insert(options->prompt.end(), ids.begin(), ids.end());
  }
}

void Print(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

SamplingOptions ReadSampling(const Invocation& invocation) {
  const SamplingOptions sampling{.temperature = invocation.Get<double>("temperature"),
                                 .top_k = invocation.Get<int64_t>("top-k"),
                                 .top_p = invocation.Get<double>("top-p"),
                                 .seed = invocation.Get<uint64_t>("seed")};
  if (!(sampling.temperature >= 0 && sampling.temperature <= 1e6)) {
    FailUsage("--temperature must be a number from 0 up");
  }
  if (sampling.top_k < 0) FailUsage("--top-k must not be negative");
  if (!(sampling.top_p > 0 && sampling.top_p <= 1))
    FailUsage("--top-p must be above 0 and at most 1");
  return sampling;
}

int Run(const Invocation& invocation) {
  CheckPromptOptions(invocation);
  GenerateOptions options{.max_tokens = invocation.Get<int64_t>("max-tokens"),
                          .sampling = ReadSampling(invocation)};
  if (options.max_tokens < 1) FailUsage("--max-tokens must be at least 1");
  const TextChoice text = ReadTokenizer(invocation);
  ReadPrompt(invocation, text, &options);
  const SingleRank rank(DeviceKind::kAuto);
  std::optional<StreamingDecoder> decoder;
  if (text.tokenizer) decoder.emplace(text.tokenizer, DecodeOptions{.skip_special = true});
  bool first = true;
  RunGenerate(invocation.file, options, rank.environment(), [&](int32_t token) {
    if (first && invocation.Has("prompt")) Print(invocation.Get<std::string>("prompt"));
    if (!decoder) {
      Print(fmt::format("{}{}", first ? "" : ",", token));
    } else if (text.tokenizer->is_byte_tokenizer()) {
      Print(text.tokenizer->TokenBytes(token));  // as they are, also where they are no UTF-8
    } else {
      Print(decoder->Add(token));
    }
    first = false;
  });
  if (decoder) Print(decoder->Finish());
  Print("\n");
  return kExitDone;
}

}  // namespace

Command MakeGenerateCommand() {
  return {
      .name = "generate",
      .file = "MODEL",
      .summary = "continue a prompt, or answer a chat, with a trained model",
      .details =
          "MODEL is a checkpoint or a Hugging Face folder, such as the hf/ of a finished run. It\n"
          "ends at the model's end-of-sequence ids and, with --chat, at the end of the answer.",
      .takes_run_keys = false,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
