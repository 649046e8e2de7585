// The chats of a JSON-lines file, one a line, in the three shapes that such files have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/model/json_reader.h"
#include "runtime/text/chat_format.h"

namespace hearth {

enum class ChatShape : uint8_t {
  kMessages,  // {"messages": [{"role": "user", "content": "..."}, ...]}
  kShareGpt,  // {"conversations": [{"from": "human", "value": "..."}, ...], "system": "..."}
  kAlpaca,    // {"instruction": "...", "input": "...", "output": "...", "system": "..."}
};

std::string_view ChatShapeName(ChatShape shape);
// "messages", "sharegpt", "alpaca"; nullopt for another name.
std::optional<ChatShape> ParseChatShape(std::string_view name);

// The shape of an object by its keys; nullopt when it has none of theirs.
std::optional<ChatShape> DetectChatShape(const JsonNode& object);

// What a line may hold.
JsonLimits ChatLineLimits(int64_t line);

// Walks the lines of `text`, which must outlive the reader; lines of white space are skipped. A
// line must be one strict JSON object in UTF-8 of the given shape, else
// ConfigError("PATH:LINE:COLUMN: error: what; remedy"). Keys that would change what the chat means
// and are not built (tools, tool_calls, images, weight, ...) are refused by name; others, such as
// an id, are passed over.
class ChatReader {
 public:
  // `first_line`: the number of the text's first line in its file.
  ChatReader(std::string path, std::string_view text, ChatShape shape, int64_t first_line = 1);

  // The chat of the next line, at least one message; nullopt at the end.
  std::optional<Chat> Next();
  int64_t bytes_read() const { return position_; }
  // Refuses the chat read last, as its line.
  [[noreturn]] void Refuse(std::string_view what_and_remedy) const;

 private:
  std::string path_;
  std::string_view text_;
  ChatShape shape_;
  int64_t position_ = 0;
  int64_t line_ = 0;  // of the line read last
};

}  // namespace hearth
