#include "runtime/text/chat_reader.h"

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "runtime/text/white_space.h"

namespace hearth {
namespace {

std::vector<Chat> ReadAll(std::string_view text, ChatShape shape, int64_t first_line = 1) {
  ChatReader reader("f.jsonl", text, shape, first_line);
  std::vector<Chat> chats;
  while (std::optional<Chat> chat = reader.Next()) chats.push_back(std::move(*chat));
  EXPECT_EQ(reader.bytes_read(), static_cast<int64_t>(text.size()));
  return chats;
}

std::string Refusal(std::string_view text, ChatShape shape, int64_t first_line = 1) {
  try {
    ReadAll(text, shape, first_line);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ChatReader, Messages) {
  const auto chats = ReadAll(
      "{\"id\": 7, \"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"content\": "
      "\"\\u00fc\", \"role\": \"user\", \"name\": \"x\", \"weight\": null}]}\r\n \n"
      "{\"tools\": [], \"messages\": [{\"role\": \"assistant\", \"content\": \"\"}, "
      "{\"role\": \"tool\", \"content\": \"t\"}]}",
      ChatShape::kMessages);
  ASSERT_EQ(chats.size(), 2u);
  EXPECT_EQ(chats[0], (Chat{{ChatRole::kSystem, "s"}, {ChatRole::kUser, "ü"}}));
  EXPECT_EQ(chats[1], (Chat{{ChatRole::kAssistant, ""}, {ChatRole::kTool, "t"}}));
}

TEST(ChatReader, ShareGpt) {
  const auto chats = ReadAll(
      "{\"system\": \"s\", \"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": "
      "\"gpt\", \"value\": \"a\"}, {\"from\": \"observation\", \"value\": \"o\"}]}\n"
      "{\"system\": \"\", \"conversations\": [{\"from\": \"system\", \"value\": \"x\"}]}\n",
      ChatShape::kShareGpt);
  ASSERT_EQ(chats.size(), 2u);
  EXPECT_EQ(chats[0], (Chat{{ChatRole::kSystem, "s"},
                            {ChatRole::kUser, "q"},
                            {ChatRole::kAssistant, "a"},
                            {ChatRole::kTool, "o"}}));
  EXPECT_EQ(chats[1], (Chat{{ChatRole::kSystem, "x"}}));
}

TEST(ChatReader, Alpaca) {
  const auto chats = ReadAll(
      "{\"instruction\": \"do\", \"input\": \"this\", \"output\": \"done\"}\n"
      "{\"instruction\": \"do\", \"input\": \"\", \"output\": \"done\", \"system\": \"s\"}\n"
      "{\"instruction\": \"do\", \"output\": \"done\", \"history\": []}\n",
      ChatShape::kAlpaca);
  ASSERT_EQ(chats.size(), 3u);
  EXPECT_EQ(chats[0], (Chat{{ChatRole::kUser, "do\nthis"}, {ChatRole::kAssistant, "done"}}));
  EXPECT_EQ(
      chats[1],
      (Chat{{ChatRole::kSystem, "s"}, {ChatRole::kUser, "do"}, {ChatRole::kAssistant, "done"}}));
  EXPECT_EQ(chats[2], (Chat{{ChatRole::kUser, "do"}, {ChatRole::kAssistant, "done"}}));
}

TEST(ChatReader, ARefusalNamesLineAndColumn) {
  struct Case {
    std::string line;
    ChatShape shape;
    std::string expected;  // behind "f.jsonl:12:"
  };
  const std::string turn = "{\"role\": \"user\", \"content\": \"x\"}";
  for (const Case& c : std::vector<Case>{
           {"{\"messages\": [}", ChatShape::kMessages, "15: error: this is not valid JSON"},
           {"[]", ChatShape::kMessages, "1: error: is a list; it must be an object"},
           {"{}", ChatShape::kMessages, "1: error: lacks \"messages\"; add it"},
           {"{\"messages\": []}", ChatShape::kMessages, "14: error: messages is empty"},
           {"{\"messages\": 1}", ChatShape::kMessages, "14: error: messages is an integer"},
           {"{\"messages\": [{\"role\": \"usr\", \"content\": \"x\"}]}", ChatShape::kMessages,
            "24: error: messages[0].role is \"usr\"; it must be one of system, user"},
           {"{\"messages\": [" + turn + ", {\"role\": \"user\"}]}", ChatShape::kMessages,
            "49: error: messages[1] lacks \"content\"; add it"},
           {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}", ChatShape::kMessages,
            "43: error: messages[0].content is null; it must be a string"},
           {"{\"messages\": [{\"role\": \"user\", \"content\": [\"x\"]}]}", ChatShape::kMessages,
            "43: error: messages[0].content is a list; it must be a string"},
           {"{\"messages\": [" + turn + "], \"tools\": [1]}", ChatShape::kMessages,
            "59: error: tools is not built; take it, or the line, out"},
           {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"weight\": 0}]}",
            ChatShape::kMessages, "58: error: messages[0].weight is not built"},
           {"{\"messages\": [" + turn + "], \"messages\": []}", ChatShape::kMessages,
            "50: error: the key \"messages\" is there twice"},
           {"{\"conversations\": [{\"from\": \"bot\", \"value\": \"\"}]}", ChatShape::kShareGpt,
            "29: error: conversations[0].from is \"bot\""},
           {"{\"instruction\": \"x\"}", ChatShape::kAlpaca, "1: error: lacks \"output\"; add it"},
           {"{\"instruction\": \"x\", \"output\": \"\", \"history\": [[\"a\", \"b\"]]}",
            ChatShape::kAlpaca, "47: error: history is not built"},
       }) {
    const std::string message = Refusal("\n" + c.line, c.shape, 11);
    EXPECT_EQ(message.rfind("f.jsonl:12:" + c.expected, 0), 0u) << c.line << "\n" << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_NE(Refusal(std::string(80, '['), ChatShape::kMessages).find("nested deeper"),
            std::string::npos);
}

TEST(ChatReader, AShapeIsToldByItsKeys) {
  const auto detect = [](const std::string& text) {
    const JsonDocument document = JsonDocument::Parse(text, "f");
    return DetectChatShape(document.root());
  };
  EXPECT_EQ(detect("{\"id\": 1, \"messages\": []}"), ChatShape::kMessages);
  EXPECT_EQ(detect("{\"conversations\": []}"), ChatShape::kShareGpt);
  EXPECT_EQ(detect("{\"instruction\": \"\", \"output\": \"\"}"), ChatShape::kAlpaca);
  EXPECT_EQ(detect("{\"text\": \"\"}"), std::nullopt);
  for (const ChatShape shape : {ChatShape::kMessages, ChatShape::kShareGpt, ChatShape::kAlpaca}) {
    EXPECT_EQ(ParseChatShape(ChatShapeName(shape)), shape);
  }
  EXPECT_EQ(ParseChatShape("chats"), std::nullopt);
}

TEST(WhiteSpace, IsTrimmedAsByPython) {
  EXPECT_EQ(TrimWhiteSpace(""), "");
  EXPECT_EQ(TrimWhiteSpace(" \t\r\n\v\f\x1c\x1f"), "");
  EXPECT_EQ(TrimWhiteSpace("\u00a0\u3000a \u2028b\u0085\u2003"), "a \u2028b");
  EXPECT_EQ(TrimWhiteSpace("\u200ba\ufeff"), "\u200ba\ufeff");  // no white space there
  EXPECT_EQ(TrimWhiteSpace("\x80 a\xa0"), "\x80 a\xa0");        // no UTF-8
  EXPECT_EQ(TrimWhiteSpace("\x80"), "\x80");
}

TEST(ChatFormats, NamesAreKnown) {
  for (const char* name : {"chatml", "llama3", "llama3.1", "qwen2.5", "qwen3"}) {
    EXPECT_EQ(ChatFormatName(ParseChatFormat(name)), name);
  }
  EXPECT_THROW(ParseChatFormat("qwen"), ConfigError);
}

TEST(ChatFormats, WhatCannotBeHeldIsNamed) {
  const Chat chat = {{ChatRole::kUser, "q"}, {ChatRole::kTool, "t"}};
  EXPECT_EQ(WhyNotRendered(ChatFormat::kQwen3, chat), std::nullopt);
  const auto why = WhyNotRendered(ChatFormat::kLlama31, chat);
  ASSERT_TRUE(why.has_value());
  EXPECT_NE(why->find("llama3.1"), std::string::npos);
}

}  // namespace
}  // namespace hearth
