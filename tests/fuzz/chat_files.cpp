// Chats of JSON lines: read in each shape, rendered in each format.
#include "runtime/text/chat_format.h"
#include "runtime/text/chat_reader.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

int FuzzChatLines(const uint8_t* data, size_t size) {
  const std::string_view text = AsText(data, size);
  constexpr ChatShape kShapes[] = {ChatShape::kMessages, ChatShape::kShareGpt, ChatShape::kAlpaca};
  // Two inputs in three are read in one shape alone: in the others most end at the first line.
  const size_t share = std::hash<std::string_view>()(text) % 9;
  for (size_t number = 0; number < 3; ++number) {
    if (share < 6 && share % 3 != number) continue;
    const ChatShape shape = kShapes[number];
    RunReader([&] {
      ChatReader reader("chats.jsonl", text, shape);
      size_t bytes = 0;
      while (const auto chat = reader.Next()) {
        Require(!chat->empty(), "a chat without a message");
        for (const ChatMessage& message : *chat) bytes += message.content.size();
        for (const ChatFormat format :
             {ChatFormat::kChatml, ChatFormat::kLlama3, ChatFormat::kLlama31, ChatFormat::kQwen25,
              ChatFormat::kQwen3}) {
          if (WhyNotRendered(format, *chat)) continue;
          bool after_text = false;
          for (const ChatSegment& segment : RenderChat(format, *chat)) {
            Require(segment.counts_from <= segment.text.size(), "a mark beyond its segment");
            Require(segment.is_special || !after_text, "two segments of text in a row");
            after_text = !segment.is_special;
          }
        }
      }
      Require(bytes <= size, "more text than the input has");
      Require(reader.bytes_read() == static_cast<int64_t>(size), "bytes that were not read");
    });
  }
  return 0;
}

std::vector<std::string> ChatLinesSeeds() {
  return {
      "{\"messages\": [{\"role\": \"system\", \"content\": \" s \"}, {\"role\": \"user\", "
      "\"content\": \"<tool_response>\\nu\\n</tool_response>\"}, {\"role\": \"assistant\", "
      "\"content\": \"<think>\\nt\\n</think>\\n\\na\"}, {\"role\": \"tool\", \"content\": "
      "\"o\"}, {\"role\": \"assistant\", \"content\": \"b\"}], \"tools\": null}\n\n",
      "{\"id\": \"1\", \"conversations\": [{\"from\": \"human\", \"value\": \"\\u00a0q\"}, "
      "{\"from\": \"gpt\", \"value\": \"\"}], \"system\": \"s\"}\r\n",
      "{\"instruction\": \"i\", \"input\": \"j\", \"output\": \"o\", \"history\": []}"};
}

std::vector<std::string> ChatLinesWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word :
       {"\"messages\": ", "\"role\": ", "\"content\": ", "\"assistant\"", "\"tool\"", "\"user\"",
        "\"conversations\": ", "\"from\": ", "\"value\": ", "\"gpt\"", "\"instruction\": ",
        "\"output\": ", "<think>", "</think>", "\\n", "<tool_response>", "\\u3000"}) {
    words.emplace_back(word);
  }
  return words;
}

}  // namespace hearth::test
