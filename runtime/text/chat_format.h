// Chats as the text that models were trained on. Each format is a fixed function: no template of a
// model's folder is executed. The text equals what apply_chat_template of transformers makes of the
// published template for a chat without tools (tests/golden/chat holds what it made).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant, kTool };

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content;  // UTF-8

  bool operator==(const ChatMessage&) const = default;
};

using Chat = std::vector<ChatMessage>;

enum class ChatFormat : uint8_t {
  kChatml,   // <|im_start|>role ... <|im_end|>, nothing added
  kLlama3,   // Llama 3: headers, content without white space around it
  kLlama31,  // Llama 3.1 to 3.3: as before, and a system message with two fixed dates in every chat
  kQwen25,   // ChatML; "You are Qwen, ..." where a chat has no system message
  kQwen3,    // ChatML; thoughts of earlier turns are left out, the last answer has a <think> block
};

// "chatml", "llama3", "llama3.1", "qwen2.5", "qwen3".
std::string_view ChatFormatName(ChatFormat format);
// ConfigError naming the choices.
ChatFormat ParseChatFormat(std::string_view name);
// The format whose template this is (chat_template of a tokenizer_config.json, or
// chat_template.jinja), told by its marks; nullopt for any other.
std::optional<ChatFormat> RecognizeChatTemplate(std::string_view jinja);

// A stretch of a rendered chat: one special token, or plain text up to the next one.
struct ChatSegment {
  std::string text;
  bool is_special = false;
  // Bytes of `text` from here on are the assistant's words or end its turn; text.size(): none.
  size_t counts_from = 0;
};

// Why the format cannot hold the chat, as "what; remedy"; nullopt when it can.
std::optional<std::string> WhyNotRendered(ChatFormat format, const Chat& chat);

// A chat of at least one message that the format can hold. With `open_answer` the beginning of an
// assistant's turn follows, for a model to go on from. No two segments of text are neighbours.
std::vector<ChatSegment> RenderChat(ChatFormat format, const Chat& chat, bool open_answer = false);

// The special token that ends a turn.
std::string_view EndOfTurn(ChatFormat format);

}  // namespace hearth
