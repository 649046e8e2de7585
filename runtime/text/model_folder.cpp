#include "runtime/text/model_folder.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>

#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr int64_t kMaxTemplateBytes = int64_t{1} << 20;
// tokenizer_config.json repeats every added token.
constexpr JsonLimits kConfigLimits = {.max_bytes = int64_t{16} << 20};
constexpr std::array<std::string_view, 4> kEndsOfText = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                                         "<eos>"};

std::optional<std::string> TemplateOf(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  const JsonDocument document = JsonDocument::ReadFile(file, kConfigLimits);
  const JsonNode root = document.root();
  root.RequireObject();
  if (!root.Has("chat_template") || root.Get("chat_template").IsNull()) return std::nullopt;
  const JsonNode node = root.Get("chat_template");
  if (node.value().kind != JsonValue::Kind::kArray) return node.AsString();
  // Several by name; the one without a purpose of its own is called default.
  for (const JsonNode& entry : node.AsArray()) {
    if (entry.Get("name").AsString() == "default") return entry.Get("template").AsString();
  }
  node.Fail("has no template named \"default\"; give --chat-format");
}

}  // namespace

ChatFormat FindChatFormat(const std::filesystem::path& folder) {
  const std::filesystem::path home =
      std::filesystem::is_directory(folder) ? folder : folder.parent_path();
  std::filesystem::path file = home / "chat_template.jinja";
  std::optional<std::string> jinja;
  if (std::filesystem::exists(file)) jinja = ReadTextFile(file, kMaxTemplateBytes);
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (jinja) break;
    file = home / name;
    jinja = TemplateOf(file);
  }
  if (!jinja) {
    throw ConfigError(fmt::format(
        "{}: error: no chat template tells this model's chat format; give --chat-format "
        "chatml, llama3, llama3.1, qwen2.5 or qwen3",
        home.string()));
  }
  if (const auto format = RecognizeChatTemplate(*jinja)) return *format;
  throw ConfigError(fmt::format(
      "{}: error: its chat template is none that is built here; if the model's format is chatml, "
      "llama3, llama3.1, qwen2.5 or qwen3 all the same, give it as --chat-format",
      file.string()));
}

std::optional<int32_t> FindEndOfText(const Tokenizer& tokenizer) {
  if (!tokenizer.suffix_tokens().empty()) return tokenizer.suffix_tokens().back();
  for (const std::string_view token : kEndsOfText) {
    const std::optional<int32_t> id = tokenizer.TokenId(token);
    if (id && tokenizer.IsSpecial(*id)) return id;
  }
  return std::nullopt;
}

}  // namespace hearth
