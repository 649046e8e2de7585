#include "runtime/data/prepare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/paragraphs.h"
#include "runtime/data/token_file.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::MessageOf;
using test::ReadFile;
using test::TemporaryFolder;

// The documents of a shard as text, one byte a token.
std::vector<std::string> DocumentsOf(const std::string& path) {
  const auto file = TokenFile::Open(path);
  file->Verify();
  std::vector<int32_t> tokens(static_cast<size_t>(file->token_count()));
  file->ReadTokens(0, tokens);
  std::vector<std::string> documents;
  const auto starts = file->DocumentStarts();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (std::find(starts.begin(), starts.end(), static_cast<int64_t>(i)) != starts.end()) {
      documents.emplace_back();
    }
    documents.back() += static_cast<char>(tokens[i]);
  }
  return documents;
}

PrepareOptions Options(const TemporaryFolder& folder, const std::string& pattern) {
  PrepareOptions options;
  options.inputs = {folder.Path(pattern)};
  options.output = folder.Path("out/train.hearth");
  return options;
}

TEST(Prepare, TextFilesAreDocumentsOfBytes) {
  const TemporaryFolder folder;
  std::string all_bytes;
  for (int byte = 0; byte < 256; ++byte) all_bytes += static_cast<char>(byte);
  folder.Write("b.txt", "Grüße\n\n");
  folder.Write("a.txt", "x");
  folder.Write("c.txt", "");
  folder.Write("d.txt", all_bytes);
  PrepareOptions options = Options(folder, "*.txt");
  options.format = InputFormat::kText;  // d.txt holds a zero byte
  const PrepareResult result = Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), (std::vector<std::string>{"x", "Grüße\n\n", all_bytes}));
  EXPECT_EQ(result.train.documents, 3);
  EXPECT_EQ(result.train.tokens, 1 + 9 + 256);
  EXPECT_EQ(result.files, 4);
  EXPECT_FALSE(result.holdout.has_value());
  const auto file = TokenFile::Open(options.output);
  EXPECT_EQ(file->vocab_size(), 256);
  EXPECT_EQ(file->tokenizer_name(), "byte");
  EXPECT_NE(file->tokenizer_hash(), Hash128{});
  options.format = InputFormat::kAuto;
  EXPECT_THROW(Prepare(options), ConfigError);
}

TEST(Prepare, JsonlLinesAreDocuments) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl",
               "{\"text\": \"one\\n\\u00e9\", \"n\": [1, {\"text\": 5}]}\r\n\n"
               "  {\"id\": 3, \"text\": \"\"}\n{\"text\":\"three\"}");
  PrepareOptions options = Options(folder, "a.jsonl");
  Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), (std::vector<std::string>{"one\né", "three"}));
  options.field = "id";
  EXPECT_THROW(Prepare(options), ConfigError);
}

TEST(Prepare, ABadLineIsNamedByFileLineAndColumn) {
  const TemporaryFolder folder;
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"text\": }", ":10: error: this is not valid JSON"},
      {"{\"text\": \"a\"} x", ":15: error: this is not valid JSON"},
      {"{\"text\": \"a\xff\"}", ":12: error: this is not valid JSON"},
      {"{\"text\": \"a\", \"text\": \"b\"}", ":1: error: a key appears twice"},
      {"{\"x\": 1, \"x\": 2, \"text\": \"b\"}", ":1: error: a key appears twice"},
      {"{\"txt\": \"a\"}", ":1: error: there is no \"text\""},
      {"{\"x\": {\"text\": \"a\"}}", ":1: error: there is no \"text\""},
      {"{\"text\": 5}", ":1: error: \"text\" is a number, not a string"},
      {"{\"text\": null}", ":1: error: \"text\" is null, not a string"},
      {"{\"text\": [\"a\"]}", ":1: error: \"text\" is a list, not a string"},
      {"{\"text\": {\"a\": \"b\"}}", ":1: error: \"text\" is an object, not a string"},
      {"[\"text\"]", ":1: error: the line is a list, not an object"},
      {"\"text\"", ":1: error: the line is a string, not an object"},
      {"{\"x\": " + deep + ", \"text\": \"a\"}", ":1: error: nested deeper than 64 levels"},
      {"{\"x\": 1e999, \"text\": \"a\"}", ": error: this is not valid JSON"},
      {"{\"x\": NaN, \"text\": \"a\"}", ": error: this is not valid JSON"},
  };
  for (const auto& [line, expected] : cases) {
    const std::string path =
        folder.Write("a.jsonl", "{\"text\": \"fine\"}\n\n" + line + "\n{\"text\": \"fine\"}\n");
    const std::string message =
        MessageOf<ConfigError>([&] { Prepare(Options(folder, "a.jsonl")); });
    EXPECT_EQ(message.rfind(path + ":3:", 0), 0u) << message;
    EXPECT_NE(message.find(expected), std::string::npos) << line << " gave " << message;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.Path("out/train.hearth")));
}

std::string Lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "{\"text\": \"document " + std::to_string(i) + "\"}\n";
  return text;
}

TEST(Prepare, HoldoutIsADisjointPartOfTheDocuments) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl", Lines(130));
  folder.Write("b.jsonl", Lines(70));
  PrepareOptions options = Options(folder, "*.jsonl");
  const PrepareResult whole = Prepare(options);
  const std::vector<std::string> all = DocumentsOf(options.output);
  ASSERT_EQ(all.size(), 200u);
  options.holdout = 0.05;
  const PrepareResult result = Prepare(options);
  ASSERT_TRUE(result.holdout.has_value());
  EXPECT_EQ(result.holdout->path, folder.Path("out/train-holdout.hearth"));
  EXPECT_EQ(result.holdout->documents, 10);
  EXPECT_EQ(result.train.documents, 190);
  EXPECT_EQ(result.train.tokens + result.holdout->tokens, whole.train.tokens);
  // Merging both in order gives the whole back: nothing lost, doubled or moved.
  const std::vector<std::string> train = DocumentsOf(options.output);
  const std::vector<std::string> held = DocumentsOf(result.holdout->path);
  size_t in_train = 0;
  size_t in_held = 0;
  size_t first_half = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (in_train < train.size() && train[in_train] == all[i]) {
      ++in_train;
    } else {
      ASSERT_LT(in_held, held.size());
      EXPECT_EQ(held[in_held++], all[i]);
      first_half += i < 100;
    }
  }
  EXPECT_EQ(in_train, train.size());
  EXPECT_EQ(in_held, held.size());
  EXPECT_TRUE(first_half > 0 && first_half < 10) << "the holdout is not spread";
}

TEST(Prepare, HoldoutOfASingleDocumentIsItsTail) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>('a' + i % 26);
  folder.Write("a.txt", text);
  PrepareOptions options = Options(folder, "a.txt");
  options.holdout = 0.1;
  const PrepareResult result = Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), std::vector<std::string>{text.substr(0, 900)});
  EXPECT_EQ(DocumentsOf(result.holdout->path), std::vector<std::string>{text.substr(900)});
  options.holdout = 1e-6;
  EXPECT_THROW(Prepare(options), ConfigError);  // it would be empty
}

TEST(Prepare, FewDocumentsAreCutAtTheirTails) {
  const TemporaryFolder folder;
  folder.Write("a.txt", std::string(100, 'a') + std::string(5, 'A'));
  folder.Write("b.txt", std::string(200, 'b') + std::string(11, 'B'));
  PrepareOptions options = Options(folder, "*.txt");
  options.holdout = 0.05;
  Prepare(options);
  EXPECT_EQ(DocumentsOf(HoldoutPath(options.output)),
            (std::vector<std::string>{std::string(5, 'A'), std::string(11, 'B')}));
  EXPECT_EQ(DocumentsOf(options.output),
            (std::vector<std::string>{std::string(100, 'a'), std::string(200, 'b')}));
}

TEST(Prepare, SameInputSameBytesWhateverWasThere) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl", Lines(50));
  PrepareOptions options = Options(folder, "a.jsonl");
  options.holdout = 0.2;
  folder.Write("out/train.hearth", "something old");
  Prepare(options);
  const std::string train = ReadFile(options.output);
  const std::string held = ReadFile(HoldoutPath(options.output));
  options.inputs = {folder.Path("a.jsonl"), folder.Path("*.jsonl")};  // matched twice, used once
  options.output = folder.Path("elsewhere.hearth");
  Prepare(options);
  EXPECT_EQ(ReadFile(options.output), train);
  EXPECT_EQ(ReadFile(HoldoutPath(options.output)), held);
}

TEST(Prepare, ProgressRisesToTheEnd) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl", Lines(500));
  PrepareOptions options = Options(folder, "a.jsonl");
  options.holdout = 0.2;
  std::vector<PrepareProgress> reports;
  options.progress = [&](const PrepareProgress& report) { reports.push_back(report); };
  Prepare(options);
  ASSERT_FALSE(reports.empty());
  for (size_t i = 1; i < reports.size(); ++i) {
    EXPECT_GE(reports[i].bytes_done, reports[i - 1].bytes_done);
  }
  EXPECT_EQ(reports.back().bytes_done, reports.back().bytes_total);
  EXPECT_EQ(reports.back().documents, 500);
  EXPECT_EQ(reports.back().seconds_left, 0.0);
}

TEST(Prepare, ForeignTokensKeepDocumentsAndMasks) {
  const TemporaryFolder folder;
  folder.Write("m.bin", test::Packed<int32_t>({5, 6, 7, 100000, 9}));
  folder.Write("m.idx",
               test::MegatronIndex(
                   {.code = 4, .lengths = {2, 3}, .pointers = {0, 8}, .documents = {0, 1, 2}}));
  folder.Write("q.bin", test::LlmqFile(2, 4, 120000, 1, test::Packed<int32_t>({1, 2, 3, 119999}),
                                       test::PackedBits({0, 1, 1, 0})));
  PrepareOptions options = Options(folder, "[mq].*");
  const PrepareResult result = Prepare(options);
  EXPECT_EQ(result.files, 2);
  const auto file = TokenFile::Open(options.output);
  file->Verify();
  EXPECT_EQ(file->vocab_size(), 120000);
  EXPECT_EQ(file->tokenizer_name(), "");
  EXPECT_EQ(file->storage(), TokenStorage::kUint32);
  std::vector<int32_t> tokens(9);
  file->ReadTokens(0, tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{5, 6, 7, 100000, 9, 1, 2, 3, 119999}));
  const auto starts = file->DocumentStarts();
  EXPECT_EQ(std::vector<int64_t>(starts.begin(), starts.end()), (std::vector<int64_t>{0, 2, 5}));
  std::vector<uint8_t> mask(9);
  file->ReadLossMask(0, mask);
  EXPECT_EQ(mask, (std::vector<uint8_t>{1, 1, 1, 1, 1, 0, 1, 1, 0}));
}

TEST(Prepare, RawTokensAreNarrowAndTheirVocabularyIsCounted) {
  const TemporaryFolder folder;
  folder.Write("a.bin", test::Packed<uint16_t>({3, 50256, 4}));
  PrepareOptions options = Options(folder, "a.bin");
  EXPECT_THROW(Prepare(options), ConfigError);  // raw tokens must be named
  options.format = InputFormat::kNanogpt;
  Prepare(options);
  const auto file = TokenFile::Open(options.output);
  EXPECT_EQ(file->vocab_size(), 50257);
  EXPECT_EQ(file->storage(), TokenStorage::kUint16);
  folder.Write("b.txt", "text");
  folder.Write("c.bin", test::LlmcFile(20240520, 1, 1, test::Packed<uint16_t>({1})));
  EXPECT_THROW(Prepare(Options(folder, "[bc].*")), ConfigError);  // mixed
  options = Options(folder, "out/train.hearth");
  EXPECT_THROW(Prepare(options), ConfigError);  // a .hearth already
}

TEST(Prepare, RefusesWrongOptions) {
  const TemporaryFolder folder;
  folder.Write("a.txt", "text");
  const auto refuse = [&](auto change) {
    PrepareOptions options = Options(folder, "a.txt");
    change(options);
    EXPECT_THROW(Prepare(options), ConfigError);
  };
  refuse([](PrepareOptions& o) { o.inputs.clear(); });
  refuse([](PrepareOptions& o) { o.inputs = {"/nowhere/*.txt"}; });
  refuse([](PrepareOptions& o) { o.output = "train.bin"; });
  refuse([](PrepareOptions& o) { o.output = ".hearth"; });
  refuse([](PrepareOptions& o) { o.tokenizer = "some/folder"; });
  for (const double holdout : {0.0, 1.0, -0.5, 2.0, std::nan("")}) {
    refuse([&](PrepareOptions& o) { o.holdout = holdout; });
  }
  refuse([](PrepareOptions& o) { o.max_bytes = 100; });
  refuse([](PrepareOptions& o) { o.holdout_every = 10; });
  refuse([](PrepareOptions& o) {
    o.deduplicate_paragraphs = true;
    o.holdout_every = 1;
  });
  refuse([](PrepareOptions& o) {
    o.deduplicate_paragraphs = true;
    o.holdout = 0.1;
  });
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"a.txt"});
  EXPECT_THROW(ParseInputFormat("txt"), ConfigError);
  EXPECT_EQ(ParseInputFormat("jsonl"), InputFormat::kJsonl);
}

std::vector<std::string> ParagraphsOf(std::string_view text) {
  std::vector<std::string> paragraphs;
  ForEachParagraph(text, [&](std::string_view paragraph) {
    paragraphs.emplace_back(paragraph);
    return true;
  });
  return paragraphs;
}

TEST(Paragraphs, AreCutAtBlankLines) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(ParagraphsOf(""), Texts{});
  EXPECT_EQ(ParagraphsOf(" \n\t\n\r\n"), Texts{});
  EXPECT_EQ(ParagraphsOf("a"), Texts{"a"});
  EXPECT_EQ(ParagraphsOf("\n\na\nb  \n"), Texts{"a\nb"});
  EXPECT_EQ(ParagraphsOf("  a\n  b\n \t\nc\r\n\r\n\r\nd\n"), (Texts{"  a\n  b", "c", "d"}));
}

TEST(Paragraphs, QuickstartCorpus) {
  const TemporaryFolder folder;
  folder.Write("a.txt", "p0\n\np1\n\n  p0  \n\np2\n");
  folder.Write("b.txt", "p1\n\np2\n");  // nothing new: no document
  folder.Write("c.txt", "p3\nx\n\np4\n\np5\n\n\n\np6\n\np7\n\np0");
  PrepareOptions options = Options(folder, "*.txt");
  options.deduplicate_paragraphs = true;
  options.holdout_every = 4;
  const PrepareResult result = Prepare(options);
  EXPECT_EQ(result.paragraphs_dropped, 1 + 2 + 1);
  EXPECT_EQ(DocumentsOf(options.output),
            (std::vector<std::string>{"p0\n\np1\n\np2\n", "p4\n\np5\n\np6\n"}));
  EXPECT_EQ(DocumentsOf(result.holdout->path), std::vector<std::string>{"p3\nx\n\np7\n"});

  // Separators count: "p0\n\n" four bytes a paragraph, "p3\nx\n\n" six.
  options.max_bytes = 21;
  Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), (std::vector<std::string>{"p0\n\np1\n\np2\n"}));
  EXPECT_EQ(DocumentsOf(result.holdout->path), std::vector<std::string>{"p3\nx\n"});
  options.max_bytes = 22;
  const PrepareResult longer = Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), (std::vector<std::string>{"p0\n\np1\n\np2\n", "p4\n"}));
  EXPECT_LE(longer.train.tokens + longer.holdout->tokens, 22);
}

TEST(Paragraphs, TrainingAndHoldoutShareNone) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "paragraph " + std::to_string(i * 7919 % 700) + "\n\n";
  folder.Write("a.txt", text);
  PrepareOptions options = Options(folder, "a.txt");
  options.deduplicate_paragraphs = true;
  options.holdout_every = 10;
  const PrepareResult result = Prepare(options);
  const auto train = ParagraphsOf(DocumentsOf(options.output).at(0));
  const auto held = ParagraphsOf(DocumentsOf(result.holdout->path).at(0));
  std::set<std::string> together(train.begin(), train.end());
  together.insert(held.begin(), held.end());
  EXPECT_EQ(train.size(), 630u);
  EXPECT_EQ(held.size(), 70u);
  EXPECT_EQ(together.size(), 700u);
  EXPECT_EQ(result.paragraphs_dropped, 1300);
}

}  // namespace
}  // namespace hearth
