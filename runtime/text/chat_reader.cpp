#include "runtime/text/chat_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr int64_t kMaxLineBytes = int64_t{64} << 20;
constexpr int kMaxDepth = 64;

struct ShapeName {
  ChatShape shape;
  std::string_view name;
  std::string_view key;  // that tells it
};
constexpr std::array<ShapeName, 3> kShapes = {{{ChatShape::kMessages, "messages", "messages"},
                                               {ChatShape::kShareGpt, "sharegpt", "conversations"},
                                               {ChatShape::kAlpaca, "alpaca", "instruction"}}};

struct RoleWord {
  std::string_view word;
  ChatRole role;
};
constexpr std::array<RoleWord, 4> kMessageRoles = {{{"system", ChatRole::kSystem},
                                                    {"user", ChatRole::kUser},
                                                    {"assistant", ChatRole::kAssistant},
                                                    {"tool", ChatRole::kTool}}};
constexpr std::array<RoleWord, 8> kShareGptRoles = {{{"system", ChatRole::kSystem},
                                                     {"human", ChatRole::kUser},
                                                     {"user", ChatRole::kUser},
                                                     {"gpt", ChatRole::kAssistant},
                                                     {"chatgpt", ChatRole::kAssistant},
                                                     {"assistant", ChatRole::kAssistant},
                                                     {"tool", ChatRole::kTool},
                                                     {"observation", ChatRole::kTool}}};

// Values that say nothing may stand under a key that is not built.
bool SaysNothing(const JsonValue& value) {
  return value.kind == JsonValue::Kind::kNull ||
         (value.kind == JsonValue::Kind::kArray && value.items.empty()) ||
         (value.kind == JsonValue::Kind::kString && value.string.empty());
}

void RefuseKeys(const JsonNode& object, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (!object.Has(key) || SaysNothing(object.Get(key).value())) continue;
    object.Get(key).Fail("is not built; take it, or the line, out");
  }
}

template <size_t Count>
ChatRole RoleOf(const JsonNode& node, const std::array<RoleWord, Count>& words) {
  const std::string& name = node.AsString();
  const auto found = std::ranges::find(words, name, &RoleWord::word);
  if (found != words.end()) return found->role;
  std::string choices;
  for (const RoleWord& word : words) {
    choices += fmt::format("{}{}", choices.empty() ? "" : ", ", word.word);
  }
  node.Fail(fmt::format("is \"{}\"; it must be one of {}", name, choices));
}

// The text of an optional key; empty without it.
std::string OptionalText(const JsonNode& object, std::string_view key) {
  if (!object.Has(key) || object.Get(key).IsNull()) return {};
  return object.Get(key).AsString();
}

std::vector<JsonNode> Turns(const JsonNode& object, std::string_view key) {
  std::vector<JsonNode> turns = object.Get(key).AsArray();
  if (turns.empty()) object.Get(key).Fail("is empty; a chat has at least one message");
  return turns;
}

Chat ReadMessages(const JsonNode& object) {
  RefuseKeys(object, {"tools", "functions", "documents", "images", "videos", "audios"});
  Chat chat;
  for (const JsonNode& turn : Turns(object, "messages")) {
    RefuseKeys(turn, {"tool_calls", "function_call", "reasoning_content", "weight", "train"});
    chat.push_back({.role = RoleOf(turn.Get("role"), kMessageRoles),
                    .content = turn.Get("content").AsString()});
  }
  return chat;
}

Chat ReadShareGpt(const JsonNode& object) {
  RefuseKeys(object, {"tools", "images", "videos", "audios"});
  Chat chat;
  if (std::string system = OptionalText(object, "system"); !system.empty()) {
    chat.push_back({.role = ChatRole::kSystem, .content = std::move(system)});
  }
  for (const JsonNode& turn : Turns(object, "conversations")) {
    RefuseKeys(turn, {"weight", "train"});
    chat.push_back({.role = RoleOf(turn.Get("from"), kShareGptRoles),
                    .content = turn.Get("value").AsString()});
  }
  return chat;
}

Chat ReadAlpaca(const JsonNode& object) {
  RefuseKeys(object, {"history", "images", "videos", "audios"});
  Chat chat;
  if (std::string system = OptionalText(object, "system"); !system.empty()) {
    chat.push_back({.role = ChatRole::kSystem, .content = std::move(system)});
  }
  std::string query = object.Get("instruction").AsString();
  if (const std::string input = OptionalText(object, "input"); !input.empty()) {
    query += "\n" + input;
  }
  chat.push_back({.role = ChatRole::kUser, .content = std::move(query)});
  chat.push_back({.role = ChatRole::kAssistant, .content = object.Get("output").AsString()});
  return chat;
}

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

}  // namespace

std::string_view ChatShapeName(ChatShape shape) {
  return std::ranges::find(kShapes, shape, &ShapeName::shape)->name;
}

std::optional<ChatShape> ParseChatShape(std::string_view name) {
  const auto found = std::ranges::find(kShapes, name, &ShapeName::name);
  return found == kShapes.end() ? std::nullopt : std::optional(found->shape);
}

std::optional<ChatShape> DetectChatShape(const JsonNode& object) {
  for (const ShapeName& shape : kShapes) {
    if (object.Has(shape.key)) return shape.shape;
  }
  return std::nullopt;
}

JsonLimits ChatLineLimits(int64_t line) {
  return {.max_bytes = kMaxLineBytes, .max_depth = kMaxDepth, .first_line = line};
}

ChatReader::ChatReader(std::string path, std::string_view text, ChatShape shape, int64_t first_line)
    : path_(std::move(path)), text_(text), shape_(shape), line_(first_line - 1) {}

void ChatReader::Refuse(std::string_view what_and_remedy) const {
  throw ConfigError(fmt::format("{}:{}:1: error: {}", path_, line_, what_and_remedy));
}

std::optional<Chat> ChatReader::Next() {
  while (position_ < static_cast<int64_t>(text_.size())) {
    const std::string_view rest = text_.substr(static_cast<size_t>(position_));
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    position_ += static_cast<int64_t>(end == rest.npos ? rest.size() : end + 1);
    ++line_;
    if (IsBlank(line)) continue;
    if (static_cast<int64_t>(line.size()) > kMaxLineBytes) {
      Refuse(
          fmt::format("a line of {} bytes, more than {}; take it out", line.size(), kMaxLineBytes));
    }
    const JsonDocument document = JsonDocument::Parse(line, path_, ChatLineLimits(line_));
    const JsonNode root = document.root();
    root.RequireObject();
    switch (shape_) {
      case ChatShape::kMessages:
        return ReadMessages(root);
      case ChatShape::kShareGpt:
        return ReadShareGpt(root);
      case ChatShape::kAlpaca:
        return ReadAlpaca(root);
    }
  }
  return std::nullopt;
}

}  // namespace hearth
