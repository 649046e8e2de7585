#include "runtime/model/json_reader.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/core/error.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

std::string Refusal(std::string_view text, const JsonLimits& limits = {}) {
  return MessageOf<ConfigError>([&] { JsonDocument::Parse(text, "f.json", limits); });
}

TEST(JsonReader, ReadsEveryKindWithItsPlace) {
  const JsonDocument document = JsonDocument::Parse(
      "{\n  \"a\": [1, -2,\n 3.5e0],\n  \"b\" : {\"c\": \"x\\n\\u00e9\"}, \"d\":null,\"e\":true }",
      "f.json");
  const JsonNode root = document.root();
  EXPECT_EQ(root.Place(), "f.json:1:1");
  const std::vector<JsonNode> a = root.Get("a").AsArray();
  ASSERT_EQ(a.size(), 3u);
  EXPECT_EQ(a[0].AsInteger(0, 9), 1);
  EXPECT_EQ(a[1].AsInteger(-9, 9), -2);
  EXPECT_EQ(a[1].AsReal(), -2.0);
  EXPECT_EQ(a[1].Place(), "f.json:2:12");
  EXPECT_EQ(a[2].AsReal(), 3.5);
  EXPECT_EQ(a[2].Place(), "f.json:3:2");
  EXPECT_EQ(a[2].path(), "a[2]");
  EXPECT_EQ(root.Get("b").Get("c").AsString(), "x\n\xc3\xa9");
  EXPECT_EQ(root.Get("b").Get("c").Place(), "f.json:4:15");
  EXPECT_EQ(root.Get("b").Get("c").path(), "b.c");
  EXPECT_TRUE(root.Get("d").IsNull());
  EXPECT_EQ(root.Get("d").Place(), "f.json:4:33");
  EXPECT_TRUE(root.Get("e").AsBool());
  EXPECT_EQ(root.Get("e").Place(), "f.json:4:42");
  EXPECT_TRUE(root.Has("d"));
  EXPECT_FALSE(root.Has("z"));
}

// The library keeps the last of two equal keys, also where the first differs by an escape only.
TEST(JsonReader, DuplicateKeysAreRefused) {
  EXPECT_EQ(Refusal("{\"a\": 1,\n \"a\": 2}"),
            "f.json:2:2: error: the key \"a\" is there twice; remove one");
  EXPECT_NE(Refusal(R"({"a": 1, "\u0061": 2})").find("twice"), std::string::npos);
  EXPECT_NE(Refusal(R"({"x": {"a": 1, "a": 2}})").find("f.json:1:16"), std::string::npos);
  JsonDocument::Parse(R"({"x": {"a": 1}, "y": {"a": 2}, "a": 3})", "f.json");
}

// The library wraps -1 into an unsigned and turns 1e30 into garbage.
TEST(JsonReader, IntegersAreExact) {
  const JsonDocument document = JsonDocument::Parse(
      "[9223372036854775807, -9223372036854775808, 9223372036854775808, 1e30, 1.0, 1e0, \"1\", "
      "-1]",
      "f.json");
  const std::vector<JsonNode> values = document.root().AsArray();
  constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(values[0].AsInteger(kLowest, kHighest), kHighest);
  EXPECT_EQ(values[1].AsInteger(kLowest, kHighest), kLowest);
  for (size_t i : {2u, 3u, 4u, 5u, 6u}) {
    EXPECT_THROW(values[i].AsInteger(kLowest, kHighest), ConfigError) << i;
  }
  EXPECT_EQ(MessageOf<ConfigError>([&] { values[7].AsInteger(0, 5); }),
            "f.json:1:87: error: [7] is -1; it must be between 0 and 5");
}

TEST(JsonReader, KindsAreNotConverted) {
  const JsonDocument document =
      JsonDocument::Parse(R"({"i": 1, "s": "1", "b": false, "n": null, "l": []})", "f.json");
  const JsonNode root = document.root();
  EXPECT_THROW(root.Get("i").AsBool(), ConfigError);
  EXPECT_THROW(root.Get("i").AsString(), ConfigError);
  EXPECT_THROW(root.Get("s").AsReal(), ConfigError);
  EXPECT_THROW(root.Get("b").AsInteger(0, 1), ConfigError);
  EXPECT_THROW(root.Get("n").AsBool(), ConfigError);
  EXPECT_THROW(root.Get("l").RequireObject(), ConfigError);
  EXPECT_THROW(root.Get("i").Get("x"), ConfigError);
  EXPECT_EQ(MessageOf<ConfigError>([&] { root.Get("s").AsArray(); }),
            "f.json:1:15: error: s is a string; it must be a list");
  EXPECT_EQ(MessageOf<ConfigError>([&] { root.Get("zz"); }),
            "f.json:1:1: error: lacks \"zz\"; add it");
}

TEST(JsonReader, DepthSizeAndCountAreLimited) {
  const std::string deep(200'000, '[');
  EXPECT_EQ(Refusal(deep), "f.json:1:33: error: nested deeper than 32 levels");
  JsonDocument::Parse(std::string(32, '[') + std::string(32, ']'), "f.json");
  EXPECT_NE(Refusal(std::string(33, '[') + std::string(33, ']')).find("deeper"), std::string::npos);
  EXPECT_EQ(Refusal("[1, 2, 3]", {.max_values = 3}), "f.json:1:8: error: more than 3 values");
  EXPECT_EQ(Refusal("[1, 2, 3]", {.max_bytes = 8}), "f.json: error: 9 bytes; at most 8 are read");
}

TEST(JsonReader, WhatIsNotJsonIsRefusedWithItsPlace) {
  for (std::string_view text :
       {"",           " ",         "{",         "[1,]",  "{\"a\":1,}",   "{'a':1}",
        "[01]",       "[+1]",      "[.5]",      "[1.]",  "[NaN]",        "[Infinity]",
        "[1e999]",    "[0x1]",     "{\"a\" 1}", "[1] x", "[1][2]",       "\"\x01\"",
        "[\"\xff\"]", "// c\n[1]", "nul",       "\"abc", "[\"\\ud800\"]"}) {
    const std::string message = Refusal(text);
    EXPECT_TRUE(message.starts_with("f.json:1:")) << text << ": " << message;
  }
  EXPECT_EQ(Refusal("{\n \"a\": 1,\n \"b\": ?\n}").substr(0, 18), "f.json:3:7: error:");
}

TEST(JsonReader, TheKindOfExceptionIsTheCallersChoice) {
  EXPECT_NE(MessageOf<IoError>([] {
              JsonDocument::Parse("[", "f.json", {}, JsonRefusal::kIoError);
            }).find("f.json:1:"),
            std::string::npos);
}

TEST(JsonReader, FilesThatCannotBeRead) {
  const TestFolder folder;
  EXPECT_NE(MessageOf<IoError>([&] {
              JsonDocument::ReadFile(folder.path() / "none.json");
            }).find("there is no such file"),
            std::string::npos);
  EXPECT_NE(
      MessageOf<IoError>([&] { JsonDocument::ReadFile(folder.path()); }).find("not a regular file"),
      std::string::npos);
  const auto big = folder.Write("big.json", std::string((1 << 20) + 1, ' '));
  EXPECT_NE(MessageOf<IoError>([&] { JsonDocument::ReadFile(big); }).find("larger than"),
            std::string::npos);
}

}  // namespace
}  // namespace hearth
