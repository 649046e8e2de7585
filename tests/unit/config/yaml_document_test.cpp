// Each trap of YAML and of yaml-cpp, by name.
#include "runtime/config/yaml_document.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

YamlDocument Parse(const std::string& text) { return YamlDocument::Parse(text, "f.yaml"); }

std::string Error(const std::string& text) {
  return ErrorOf([&] { Parse(text); });
}

std::string Repeated(const std::string& part, int64_t times) {
  std::string text;
  for (int64_t i = 0; i < times; ++i) text += part;
  return text;
}

TEST(YamlDocument, ReadsMapsListsAndScalarsWithTheirPlaces) {
  const YamlDocument document = Parse("a: 1\nb:\n  - x\n  - 'y z'\nc: {d: null, e: ~}\n");
  const YamlNode& root = document.root();
  ASSERT_TRUE(root.IsMap());
  ASSERT_EQ(root.entries.size(), 3U);
  EXPECT_EQ(root.Find("a")->text, "1");
  EXPECT_FALSE(root.Find("a")->quoted);
  ASSERT_EQ(root.Find("b")->items.size(), 2U);
  const YamlNode& item = root.Find("b")->items[1];
  EXPECT_EQ(item.text, "y z");
  EXPECT_TRUE(item.quoted);
  EXPECT_EQ(item.mark.line, 4);
  EXPECT_EQ(item.mark.column, 5);
  EXPECT_TRUE(root.Find("c")->Find("d")->IsNull());
  EXPECT_TRUE(root.Find("c")->Find("e")->IsNull());
  EXPECT_EQ(root.Find("x"), nullptr);
  EXPECT_EQ(root.entries[2].key_mark.line, 5);
}

TEST(YamlDocument, ColumnsCountCharactersNotBytes) {
  EXPECT_EQ(Error("a: {b: \xC3\xA9\xC3\xA9, c: *x}\n").substr(0, 20), "f.yaml:1:15: error: ");
}

TEST(YamlDocument, ByteOrderMarkIsSkipped) {
  const YamlDocument document = Parse(
      "\xEF\xBB\xBF"
      "a: 1\n");
  EXPECT_EQ(document.root().Find("a")->mark.column, 4);
}

TEST(YamlDocument, WindowsLineEndsAreRead) {
  const YamlDocument document = Parse("a: 1\r\nb: 2\r\n");
  EXPECT_EQ(document.root().Find("b")->text, "2");
  EXPECT_EQ(document.root().Find("b")->mark.line, 2);
}

TEST(YamlDocument, DuplicateKeyIsAnError) {
  EXPECT_EQ(Error("a: 1\nb: 2\na: 3\n"),
            "f.yaml:3:1: error: duplicate key 'a', already given in line 1; remove one of them");
  EXPECT_THAT(Error("s: {k: 1, k: 2}"), StartsWith("f.yaml:1:11: error: duplicate key 'k'"));
  EXPECT_THAT(Error("a: 1\n'a': 3\n"), StartsWith("f.yaml:2:1: error: duplicate key"));
}

TEST(YamlDocument, SecondDocumentIsAnError) {
  EXPECT_EQ(Error("a: 1\n---\nb: 2\n"),
            "f.yaml:2:1: error: a second document starts here; a file holds one document only");
  EXPECT_THAT(Error("a: 1\n---\n"), StartsWith("f.yaml:2:1: error: a second document"));
  EXPECT_THAT(Error("a: 1\n...\nb: 2\n"), StartsWith("f.yaml:3:1: error: a second document"));
  EXPECT_THAT(Error("- a\nb: c\n"), StartsWith("f.yaml:2:1: error: a second document"));
  EXPECT_EQ(Error("---\na: 1\n...\n"), "no error");
}

TEST(YamlDocument, AnchorIsAnError) {
  EXPECT_THAT(Error("a: &x 1\n"), StartsWith("f.yaml:1:4: error: an anchor ('&')"));
  EXPECT_THAT(Error("a: &x [1]\n"), HasSubstr("an anchor ('&')"));
  EXPECT_THAT(Error("a: &x {b: 1}\n"), HasSubstr("an anchor ('&')"));
  EXPECT_THAT(Error("a: &x\n"), HasSubstr("an anchor ('&')"));
  EXPECT_THAT(Error("&x a: 1\n"), HasSubstr("an anchor ('&')"));
}

TEST(YamlDocument, CyclicAnchorIsAnError) {
  EXPECT_THAT(Error("a: &x [*x]\n"), HasSubstr("an anchor ('&')"));
}

TEST(YamlDocument, AliasIsAnError) {
  EXPECT_THAT(Error("a: *x\n"), StartsWith("f.yaml:1:4: error: "));
  EXPECT_THAT(Error("datasets: [{path: *.bin}]\n"), StartsWith("f.yaml:1:19: error: "));
}

TEST(YamlDocument, AliasBombIsAnErrorAtItsFirstAnchor) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = fmt::format("*a{}", i - 1);
    bomb += fmt::format("a{}: &a{} [{}", i, i, before);
    for (int k = 0; k < 8; ++k) bomb += ", " + before;
    bomb += "]\n";
  }
  EXPECT_THAT(Error(bomb), StartsWith("f.yaml:1:5: error: an anchor"));
}

TEST(YamlDocument, MergeKeyIsAnError) {
  EXPECT_EQ(Error("s:\n  <<: {a: 1}\n"),
            "f.yaml:2:3: error: the merge key '<<' is not allowed; write the keys out");
}

TEST(YamlDocument, TagIsAnError) {
  for (const char* text : {"a: !!str 5\n", "a: !!int 5\n", "a: !mine 5\n", "a: ! 5\n", "a: ! 'x'\n",
                           "a: !!null\n", "a: !x {b: 1}\n", "a: ! [1]\n", "a: !<tag:x,2000:y> 5\n",
                           "!!str a: 1\n", "a: !!float .5\n"}) {
    EXPECT_THAT(Error(text), HasSubstr("error: a tag ('!') is not allowed; remove it")) << text;
  }
  EXPECT_EQ(Error("a!: 'x'\nb: wow!\n'c': \"d!\"\n"), "no error");
}

TEST(YamlDocument, DirectiveIsAnError) {
  EXPECT_EQ(Error("%YAML 1.2\n---\na: 1\n"),
            "f.yaml:1:1: error: a directive ('%') is not allowed; remove the line");
  EXPECT_THAT(Error("a: 1\n%TAG ! x\n"), StartsWith("f.yaml:2:1: error: a directive"));
  EXPECT_EQ(Error("a: 5 %\n# % is fine here\n"), "no error");
}

TEST(YamlDocument, ThirtyTwoLevelsAreReadThirtyThreeAreAnError) {
  EXPECT_EQ(Error(Repeated("[", 32) + Repeated("]", 32)), "no error");
  EXPECT_EQ(Error(Repeated("[", 33) + Repeated("]", 33)),
            "f.yaml:1:33: error: more than 32 levels; nest less deeply");
  std::string indented;
  for (int i = 0; i < 40; ++i) indented += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_THAT(Error(indented), HasSubstr("more than 32 levels"));
}

TEST(YamlDocument, HostileMebibytesEndSoon) {
  for (const char* part : {"[", "{",  "? ",   "- ",     "{a: ", "[a, ", "[{", "&a ", "*a ", "!",
                           "'", "\"", "- - ", "a: [\n", ": ",   "-\n",  "%",  "\\",  "|\n", "#"}) {
    const std::string text =
        Repeated(part, kMaxYamlBytes / static_cast<int64_t>(std::string(part).size()));
    // Whatever it is: no crash, no endless loop, and no other exception.
    ErrorOf([&] { Parse(text); });
  }
  const std::string wide = "a: [" + Repeated("1,", kMaxYamlBytes / 2 - 4) + "]";
  EXPECT_EQ(Parse(wide).root().Find("a")->items.size(), static_cast<size_t>(kMaxYamlBytes / 2 - 4));
}

TEST(YamlDocument, OneMebibyteIsReadMoreIsAnError) {
  const std::string start = "a: 1\n#";
  const std::string full =
      start + std::string(static_cast<size_t>(kMaxYamlBytes) - start.size(), 'x');
  EXPECT_EQ(Error(full), "no error");
  EXPECT_EQ(
      Error(full + "x"),
      "f.yaml: error: 1048577 bytes are more than the 1 MiB a configuration may have; make the "
      "file smaller");
}

TEST(YamlDocument, NulAndControlCharactersAreErrors) {
  EXPECT_EQ(Error(std::string("a: 1\nb: \0x\n", 11)),
            "f.yaml:2:4: error: the control character 0x00 is not allowed; remove it");
  EXPECT_THAT(Error("a: \x1b[0m\n"), StartsWith("f.yaml:1:4: error: the control character 0x1b"));
  EXPECT_THAT(Error("a: 1\rb: 2\r"), StartsWith("f.yaml:1:5: error: the control character 0x0d"));
  EXPECT_THAT(Error("a: \x7f\n"), HasSubstr("0x7f"));
  EXPECT_THAT(Error("a: \xC2\x85\n"), HasSubstr("0x85"));
}

TEST(YamlDocument, InvalidUtf8IsAnError) {
  for (const char* bytes : {"\xff", "\xC0\xAF", "\xC3", "\xE2\x82", "\xED\xA0\x80",
                            "\xF4\x90\x80\x80", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\x80"}) {
    EXPECT_EQ(Error(std::string("ab: ") + bytes + "\n"),
              "f.yaml:1:5: error: this is not UTF-8; save the file as UTF-8");
  }
  EXPECT_EQ(Error("a: \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x94\xA5\n"), "no error");
}

TEST(YamlDocument, EscapesThatBecomeBytesAreErrors) {
  EXPECT_EQ(
      Error("a:\n  b: \"x\\_y\"\n"),
      "f.yaml:2:6: error: the escapes \\N and \\_ are not allowed; write the character itself, "
      "\\u0085 or \\u00a0");
  EXPECT_THAT(Error("\"\\N\": 1\n"), StartsWith("f.yaml:1:1: error: the escapes"));
  EXPECT_EQ(Error("a: \"\\u00a0\\u00e9\\U0001f525\\L\"\nb: '\\_'\n"), "no error");
}

TEST(YamlDocument, Utf16IsAnError) {
  EXPECT_THAT(Error(std::string("\xff\xfe"
                                "a\0:\0",
                                6)),
              HasSubstr("not UTF-8"));
}

TEST(YamlDocument, UnclosedQuotesAreAnError) {
  EXPECT_THAT(Error("a: 'b\n"), HasSubstr("error: "));
  EXPECT_THAT(Error("a: 'b''\n"), HasSubstr("error: "));
  EXPECT_THAT(Error("a: \"b\\\"\n"), HasSubstr("error: "));
  EXPECT_EQ(Error("a: 'b'''\nc: \"\\\"\"\n"), "no error");
}

TEST(YamlDocument, BrokenStructureIsAnErrorWithItsPlace) {
  EXPECT_THAT(Error("a: [1, 2\n"), StartsWith("f.yaml:2:1: error: not valid YAML"));
  EXPECT_THAT(Error("a: 1\n]\n"), StartsWith("f.yaml:2:1: error: not valid YAML"));
  EXPECT_THAT(Error("a: b: c\n"), StartsWith("f.yaml:1:5: error: not valid YAML"));
  EXPECT_THAT(Error("a:\n\tb: c\n"), StartsWith("f.yaml:2:"));
  EXPECT_THAT(Error("a: @x\n"), StartsWith("f.yaml:1:4: error: not valid YAML"));
}

TEST(YamlDocument, KeysAreWords) {
  EXPECT_THAT(Error("? [a]\n: b\n"),
              StartsWith("f.yaml:1:3: error: a list or map cannot be a key"));
  EXPECT_THAT(Error("{a: 1}: b\n"), HasSubstr("error: "));
  EXPECT_THAT(Error("null: 1\n"), HasSubstr("error: a key is missing here"));
  EXPECT_THAT(Error(": 1\n"), HasSubstr("error: a key is missing here"));
}

TEST(YamlDocument, ScalarFormsAreKeptApart) {
  const YamlDocument document = Parse("a: '5'\nb: |\n  5\nc: \"5\"\nd: 5\n");
  for (const char* key : {"a", "b", "c"}) {
    EXPECT_TRUE(document.root().Find(key)->quoted);
    EXPECT_THAT(ErrorOf([&] { document.Integer(*document.root().Find(key), key, {}); }),
                HasSubstr("is in quotes; write an integer"));
  }
  EXPECT_EQ(document.Integer(*document.root().Find("d"), "d", {}), 5);
}

TEST(YamlDocument, MissingValueIsReportedAtItsKey) {
  const YamlDocument document = Parse("a: 1\nbb:\ncc: 2\n");
  EXPECT_EQ(ErrorOf([&] { document.Integer(*document.root().Find("bb"), "bb", {.min = 1}); }),
            "f.yaml:2:1: error: bb: there is no value; write an integer, at least 1");
}

TEST(YamlDocument, CheckKeysNamesUnknownAndMissingKeys) {
  const YamlDocument document = Parse("s:\n  layers: 3\n  hiden: 2\n");
  const YamlNode& section = *document.root().Find("s");
  EXPECT_EQ(ErrorOf([&] {
              document.CheckKeys(section, "s", {"layers", "hidden"}, {});
            }),
            "f.yaml:3:3: error: unknown key 'hiden' in s; did you mean 'hidden'?");
  EXPECT_EQ(ErrorOf([&] {
              document.CheckKeys(section, "s", {"layers", "hiden", "x"}, {"x"});
            }),
            "f.yaml:2:3: error: s has no 'x'; add it");
  EXPECT_EQ(ErrorOf([&] {
              document.CheckKeys(section, "s", {"layers", "hiden"}, {"layers"});
            }),
            "no error");
  EXPECT_THAT(ErrorOf([&] { document.CheckKeys(*section.Find("layers"), "x", {"y"}, {}); }),
              StartsWith("f.yaml:2:11: error: x must be a map"));
}

TEST(YamlDocument, BooleansAreTrueAndFalseAlone) {
  for (const char* word : {"yes", "no", "on", "off", "True", "TRUE", "False", "y", "n", "1", "0",
                           "'true'", "\"false\""}) {
    const YamlDocument document = Parse(std::string("a: ") + word + "\n");
    EXPECT_THAT(ErrorOf([&] { document.Boolean(*document.root().Find("a"), "a"); }),
                HasSubstr("; write true or false"))
        << word;
  }
  const YamlDocument document = Parse("a: true\nb: false\n");
  EXPECT_TRUE(document.Boolean(*document.root().Find("a"), "a"));
  EXPECT_FALSE(document.Boolean(*document.root().Find("b"), "b"));
}

TEST(YamlDocument, TextsHaveNoControlCharactersAndALimit) {
  const YamlDocument document =
      Parse("a: \"x\\0y\"\nb: \"x\\ny\"\nc: ''\nd: " + std::string(4097, 'x') +
            "\ne: " + std::string(4096, 'x') + "\n");
  for (const char* key : {"a", "b", "c", "d"}) {
    EXPECT_THAT(ErrorOf([&] { document.Text(*document.root().Find(key), key); }),
                HasSubstr("; write a text"))
        << key;
  }
  EXPECT_EQ(document.Text(*document.root().Find("e"), "e").size(), 4096U);
}

TEST(YamlDocument, QuotedTextsReadBackTheSame) {
  for (const std::string& text : std::vector<std::string>{
           "plain", "a b", "null",        "~",  "-",        "--- x",        "...", "a: b", "a #b",
           "*x",    "&x",  "!x",          "%x", "@x",       "`x",           "[x]", "{x}",  "'x'",
           "\"x\"", "\\x", "x,y",         "?",  "\xC3\xA9", "true",         "010", " x ",  "Null",
           "a\tb",  "x:",  "../runs/a+b", "-x", "=",        "data/*.hearth"}) {
    const YamlDocument document = Parse("a: [" + QuoteYaml(text) + "]  # c\n");
    ASSERT_EQ(document.root().Find("a")->items.size(), 1U) << text;
    EXPECT_EQ(document.root().Find("a")->items[0].text, text);
  }
}

}  // namespace
}  // namespace hearth
