// `hearth prepare` with a tokenizer and chats, its threads, its packing and its second chance.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/prepare.h"
#include "runtime/data/prepare_chunks.h"
#include "runtime/data/token_file.h"
#include "runtime/text/chat_encoder.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::MessageOf;
using test::ReadFile;
using test::TemporaryFolder;

const std::string kModel = std::string(HEARTH_SOURCE_DIR) + "/tests/golden/chat/model";
const std::string kChats = std::string(HEARTH_SOURCE_DIR) + "/tests/golden/chat/chats.jsonl";

struct Document {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;

  bool operator==(const Document&) const = default;
};

std::vector<Document> DocumentsOf(const std::string& path) {
  const auto file = TokenFile::Open(path);
  file->Verify();
  Document all{std::vector<int32_t>(static_cast<size_t>(file->token_count())),
               std::vector<uint8_t>(static_cast<size_t>(file->token_count()))};
  file->ReadTokens(0, all.tokens);
  file->ReadLossMask(0, all.counts);
  std::vector<Document> documents;
  const auto starts = file->DocumentStarts();
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : file->token_count();
    documents.push_back({{all.tokens.begin() + starts[i], all.tokens.begin() + end},
                         {all.counts.begin() + starts[i], all.counts.begin() + end}});
  }
  return documents;
}

std::string ChatLine(int number, int words) {
  std::string answer;
  for (int i = 0; i < words; ++i) answer += "word" + std::to_string((number * 7 + i) % 13) + " ";
  return "{\"messages\": [{\"role\": \"user\", \"content\": \"Question " + std::to_string(number) +
         "?\"}, {\"role\": \"assistant\", \"content\": \"" + answer + "\"}]}\n";
}

std::string ChatLines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += ChatLine(i, 1 + (i * 5) % 17);
  return text;
}

PrepareOptions Options(const TemporaryFolder& folder, const std::string& input) {
  PrepareOptions options;
  options.inputs = {input};
  options.output = folder.Path("chats.hearth");
  options.tokenizer = kModel;
  return options;
}

std::vector<Document> Expected(const std::vector<Chat>& chats, ChatFormat format) {
  ChatEncoder encoder(Tokenizer::Load(kModel), format);
  std::vector<Document> documents;
  for (const Chat& chat : chats) {
    EncodedChat encoded;
    encoder.Encode(chat, false, &encoded);
    documents.push_back({encoded.tokens, encoded.counts});
  }
  return documents;
}

TEST(PrepareChats, TheThreeShapesGiveTheSameChats) {
  const TemporaryFolder folder;
  const std::vector<Chat> chats = {
      {{ChatRole::kSystem, "s"}, {ChatRole::kUser, "q\ni"}, {ChatRole::kAssistant, "a"}},
      {{ChatRole::kUser, "x"}, {ChatRole::kAssistant, "y"}}};
  folder.Write(
      "messages.jsonl",
      "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
      "\"content\": \"q\\ni\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", "
      "\"content\": \"y\"}]}\n");
  folder.Write("sharegpt.jsonl",
               "{\"system\": \"s\", \"conversations\": [{\"from\": \"human\", \"value\": "
               "\"q\\ni\"}, {\"from\": \"gpt\", \"value\": \"a\"}]}\n"
               "{\"conversations\": [{\"from\": \"human\", \"value\": \"x\"}, {\"from\": \"gpt\", "
               "\"value\": \"y\"}]}");
  folder.Write("alpaca.jsonl",
               "\n{\"system\": \"s\", \"instruction\": \"q\", \"input\": \"i\", \"output\": "
               "\"a\"}\n{\"instruction\": \"x\", \"output\": \"y\"}\n");
  for (const char* name : {"messages", "sharegpt", "alpaca"}) {
    for (const bool named : {false, true}) {
      PrepareOptions options = Options(folder, folder.Path(std::string(name) + ".jsonl"));
      if (named) options.chat = ParseChatInput(name);
      const PrepareResult result = Prepare(options);
      EXPECT_EQ(result.chat_format, ChatFormat::kQwen25);  // the folder's template
      EXPECT_EQ(DocumentsOf(options.output), Expected(chats, ChatFormat::kQwen25)) << name;
    }
  }
  const auto file = TokenFile::Open(folder.Path("chats.hearth"));
  EXPECT_TRUE(file->has_loss_mask());
  EXPECT_EQ(file->tokenizer_name(), "model");
  EXPECT_EQ(file->tokenizer_hash(),
            Xxh3Hash128(std::string_view(ReadFile(kModel + "/tokenizer.json"))));
  EXPECT_EQ(file->vocab_size(), 330);
  PrepareOptions options = Options(folder, folder.Path("messages.jsonl"));
  options.chat_format = ChatFormat::kLlama3;
  Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output), Expected(chats, ChatFormat::kLlama3));
  options.loss_on_all = true;
  Prepare(options);
  EXPECT_FALSE(TokenFile::Open(options.output)->has_loss_mask());
}

TEST(PrepareChats, ThreadsAndChunksChangeNoByte) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl", ChatLines(300));
  folder.Write("b.jsonl", ChatLines(70));
  for (const int64_t pack : {0, 96}) {
    PrepareOptions options = Options(folder, folder.Path("*.jsonl"));
    options.pack = pack;
    options.holdout = 0.1;
    options.chunk_bytes = 1 << 20;
    Prepare(options);
    const std::string train = ReadFile(options.output);
    const std::string held = ReadFile(HoldoutPath(options.output));
    for (const int threads : {1, 2, 5}) {
      for (const int64_t chunk : {1, 1000, 30000}) {
        options.threads = threads;
        options.chunk_bytes = chunk;
        Prepare(options);
        EXPECT_TRUE(ReadFile(options.output) == train) << threads << " threads, chunks " << chunk;
        EXPECT_TRUE(ReadFile(HoldoutPath(options.output)) == held) << threads;
      }
    }
  }
}

TEST(PrepareChats, TheFirstBadLineIsToldWhateverTheThreads) {
  const TemporaryFolder folder;
  const std::string path = folder.Write(
      "a.jsonl", ChatLines(100) + "{\"messages\": 5}\n" + ChatLines(50) + "{\"messages\": 6}\n");
  for (const int threads : {1, 4}) {
    PrepareOptions options = Options(folder, path);
    options.threads = threads;
    options.chunk_bytes = 100;
    const std::string message = MessageOf<ConfigError>([&] { Prepare(options); });
    EXPECT_EQ(message.rfind(path + ":101:14: error: messages is an integer", 0), 0u) << message;
  }
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"a.jsonl"});
}

TEST(PrepareChats, LongChatsAreTruncatedDroppedOrRefused) {
  const TemporaryFolder folder;
  const std::string path =
      folder.Write("a.jsonl", ChatLine(0, 2) + ChatLine(1, 60) + ChatLine(2, 2));
  PrepareOptions options = Options(folder, path);
  options.chat_format = ChatFormat::kChatml;
  Prepare(options);
  const std::vector<Document> whole = DocumentsOf(options.output);
  ASSERT_EQ(whole.size(), 3u);
  options.max_length = static_cast<int64_t>(whole[1].tokens.size()) - 1;
  const PrepareResult truncated = Prepare(options);
  EXPECT_EQ(truncated.truncated, 1);
  std::vector<Document> expected = whole;
  expected[1].tokens.pop_back();
  expected[1].counts.pop_back();
  EXPECT_EQ(DocumentsOf(options.output), expected);
  options.too_long = TooLong::kDrop;
  EXPECT_EQ(Prepare(options).dropped, 1);
  EXPECT_EQ(DocumentsOf(options.output), (std::vector<Document>{whole[0], whole[2]}));
  options.too_long = TooLong::kError;
  EXPECT_EQ(
      MessageOf<ConfigError>([&] {
        Prepare(options);
      }).rfind(path + ":2:1: error: " + std::to_string(whole[1].tokens.size()) + " tokens", 0),
      0u);
  // So short that no answer is left.
  options.too_long = TooLong::kTruncate;
  options.max_length = 5;
  EXPECT_THROW(Prepare(options), ConfigError);
}

TEST(PrepareChats, PackedSamplesHoldWholeChats) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.jsonl", ChatLines(200));
  PrepareOptions options = Options(folder, path);
  options.chat_format = ChatFormat::kChatml;
  options.max_length = 90;
  Prepare(options);
  std::vector<Document> whole = DocumentsOf(options.output);
  constexpr int64_t kSample = 128;
  options.pack = kSample;
  const PrepareResult result = Prepare(options);
  EXPECT_EQ(result.train.documents, std::ssize(whole));
  EXPECT_LT(result.train.padding, result.train.tokens / 10);
  std::vector<Document> packed;
  int64_t at = 0;
  for (const Document& document : DocumentsOf(options.output)) {
    const auto length = static_cast<int64_t>(document.tokens.size());
    EXPECT_EQ(at / kSample, (at + length - 1) / kSample) << "cut at " << at;
    at += length;
    const bool counts = std::ranges::find(document.counts, 1) != document.counts.end();
    if (counts) packed.push_back(document);
  }
  EXPECT_EQ(at % kSample, 1);  // the last sample has a target for its last token
  EXPECT_EQ(result.train.tokens + result.train.padding, at);
  const auto order = [](const Document& a, const Document& b) { return a.tokens < b.tokens; };
  std::ranges::sort(packed, order);
  std::ranges::sort(whole, order);
  EXPECT_EQ(packed, whole);
}

// A child is killed when three quarters are done; its successor must not begin anew.
TEST(PrepareChats, AKilledPrepareGoesOn) {
  const TemporaryFolder folder;
  folder.Write("a.jsonl", ChatLines(400));
  folder.Write("b.jsonl", ChatLines(300));
  folder.Write("c.txt", ChatLines(500));
  struct Case {
    std::string pattern;
    int64_t pack;
  };
  for (const auto& [pattern, pack] :
       std::vector<Case>{{"*.jsonl", 0}, {"*.jsonl", 96}, {"*.txt", 0}}) {
    PrepareOptions options = Options(folder, folder.Path(pattern));
    options.holdout = 0.2;
    options.pack = pack;
    options.chunk_bytes = 8000;
    if (pattern == "*.txt") options.tokenizer = "byte";
    Prepare(options);
    const std::string train = ReadFile(options.output);
    const std::string held = ReadFile(HoldoutPath(options.output));
    options.output = folder.Path("again.hearth");
    options.save_interval_s = 0;
    options.progress_interval_s = 0;
    const pid_t child = fork();
    if (child == 0) {
      PrepareOptions killed = options;
      killed.progress = [&](const PrepareProgress& progress) {
        if (progress.bytes_done > progress.bytes_total * 3 / 4) _exit(9);
      };
      Prepare(killed);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_EQ(WEXITSTATUS(status), 9);
    const PrepareResult result = Prepare(options);
    EXPECT_GT(result.resumed_bytes, 10'000) << pattern;
    EXPECT_TRUE(ReadFile(options.output) == train) << pattern;
    EXPECT_TRUE(ReadFile(HoldoutPath(options.output)) == held) << pattern;
    for (const std::string& name : folder.Names()) {
      EXPECT_EQ(name.find("partial"), std::string::npos) << name;
    }
  }
}

TEST(PrepareChats, AnUnfinishedOutputOfOtherInputsIsNotGoneOnWith) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.jsonl", ChatLines(400));
  PrepareOptions options = Options(folder, path);
  options.chunk_bytes = 8000;
  options.save_interval_s = 0;
  options.progress_interval_s = 0;
  const pid_t child = fork();
  if (child == 0) {
    options.progress = [](const PrepareProgress& p) {
      if (p.bytes_done > p.bytes_total / 2) _exit(9);
    };
    Prepare(options);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_EQ(WEXITSTATUS(status), 9);
  ASSERT_EQ(folder.Names(), (std::vector<std::string>{"a.jsonl", "chats.hearth.partial",
                                                      "chats.hearth.partial-state"}));
  options.loss_on_all = true;
  EXPECT_EQ(Prepare(options).resumed_bytes, 0);
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"a.jsonl", "chats.hearth"}));
}

TEST(PrepareChats, OptionsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  const std::string chats = folder.Write("a.jsonl", ChatLines(3));
  const std::string text = folder.Write("b.jsonl", "{\"text\": \"some\"}\n");
  folder.Write("c.txt", "text");
  const auto refuse = [&](const std::string& input, const std::string& expected, auto change) {
    PrepareOptions options = Options(folder, input);
    change(options);
    const std::string message = MessageOf<ConfigError>([&] { Prepare(options); });
    EXPECT_NE(message.find(expected), std::string::npos) << expected << ": " << message;
  };
  refuse(chats, "give --tokenizer FOLDER", [](PrepareOptions& o) { o.tokenizer = "byte"; });
  refuse(chats, "no such folder", [](PrepareOptions& o) { o.tokenizer = "/nowhere"; });
  refuse(chats, "more than the 32 of --pack", [](PrepareOptions& o) {
    o.pack = 32;
    o.max_length = 33;
  });
  refuse(chats, "no \"text\"", [](PrepareOptions& o) { o.chat = ParseChatInput("none"); });
  refuse(chats, "lacks \"instruction\"",
         [](PrepareOptions& o) { o.chat = ParseChatInput("alpaca"); });
  refuse(chats, "--holdout 0.1: of 3", [](PrepareOptions& o) { o.holdout = 0.1; });
  refuse(text, "are for JSONL files of chats", [](PrepareOptions& o) { o.loss_on_all = true; });
  refuse(text, "no such token", [](PrepareOptions& o) { o.document_end = "<nothing>"; });
  refuse(folder.Path("c.txt"), "for JSONL alone", [](PrepareOptions& o) { o.max_length = 9; });
  refuse(folder.Path("[ac].*"), "cannot be mixed", [](PrepareOptions&) {});
  folder.Write("d.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}");
  refuse(folder.Path("d.jsonl"), "d.jsonl:1:1: error: no message of the assistant",
         [](PrepareOptions&) {});
  EXPECT_FALSE(std::filesystem::exists(folder.Path("chats.hearth")));
}

TEST(PrepareText, DocumentsEndWithTheEndOfTextToken) {
  const TemporaryFolder folder;
  const std::string text = "Hello <|im_end|> there";
  const std::string path = folder.Write("a.jsonl", "{\"text\": \"" + text + "\"}\n");
  const auto tokenizer = Tokenizer::Load(kModel);
  std::vector<int32_t> expected = tokenizer->Encode(text, {.parse_special = false});
  PrepareOptions options = Options(folder, path);
  options.document_end = "none";
  Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output).at(0).tokens, expected);
  options.document_end = "auto";
  Prepare(options);
  expected.push_back(*tokenizer->TokenId("<|endoftext|>"));
  EXPECT_EQ(DocumentsOf(options.output).at(0).tokens, expected);
  options.parse_special = true;
  options.document_end = "<|im_end|>";
  Prepare(options);
  expected = tokenizer->Encode(text);
  expected.push_back(*tokenizer->TokenId("<|im_end|>"));
  EXPECT_EQ(DocumentsOf(options.output).at(0).tokens, expected);
  EXPECT_EQ(std::ranges::count(expected, *tokenizer->TokenId("<|im_end|>")), 2);
}

TEST(PrepareText, WhatATokenizerPutsBeforeATextStandsBeforeEachDocument) {
  const TemporaryFolder folder;
  const std::string llama = std::string(HEARTH_SOURCE_DIR) + "/tests/golden/tokenizers/llama3";
  const auto tokenizer = Tokenizer::Load(llama);
  folder.Write("a.txt", "one text\nand more\nof it\n");
  folder.Write("b.txt", "two");
  PrepareOptions options = Options(folder, folder.Path("*.txt"));
  options.tokenizer = llama;
  options.chunk_bytes = 1;  // the first is cut into three
  Prepare(options);
  const std::vector<Document> documents = DocumentsOf(options.output);
  ASSERT_EQ(documents.size(), 2u);
  const auto expected = [&](const std::string& text) {
    std::vector<int32_t> tokens = {*tokenizer->TokenId("<|begin_of_text|>")};
    const std::vector<int32_t> words = tokenizer->Encode(text);
    tokens.insert(tokens.end(), words.begin(), words.end());
    tokens.push_back(*tokenizer->TokenId("<|end_of_text|>"));
    return tokens;
  };
  EXPECT_EQ(documents[0].tokens, expected("one text\nand more\nof it\n"));
  EXPECT_EQ(documents[1].tokens, expected("two"));
}

// A tokenizer that puts a space before every text must not see a text in pieces.
TEST(PrepareText, ASpaceBeforeTheTextIsPutOnce) {
  const TemporaryFolder folder;
  const std::string gpt2 = std::string(HEARTH_SOURCE_DIR) + "/tests/golden/tokenizers/gpt2-prefix";
  const auto tokenizer = Tokenizer::Load(gpt2);
  const std::string text = "one\ntwo\nthree\nfour";
  PrepareOptions options = Options(folder, folder.Write("a.txt", text));
  options.tokenizer = gpt2;
  options.chunk_bytes = 1;
  options.document_end = "none";
  Prepare(options);
  EXPECT_EQ(DocumentsOf(options.output).at(0).tokens, tokenizer->Encode(text));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), " " + text);
}

TEST(PrepareText, ALongFileIsOneDocumentWhateverTheChunks) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += i % 7 == 0 ? "1. \n\n  indented" : "line of  words, \t";
    text += i % 3 == 0 ? "\n" : "\r\n\r\n";
    if (i % 5 == 0) text += "word\nnext\n";
  }
  const std::string path = folder.Write("a.txt", text);
  PrepareOptions options = Options(folder, path);
  options.chunk_bytes = 1 << 20;
  Prepare(options);
  const std::vector<Document> whole = DocumentsOf(options.output);
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_EQ(whole[0].tokens.size(), Tokenizer::Load(kModel)->Encode(text).size() + 1);
  const std::string bytes = ReadFile(options.output);
  for (const int64_t chunk : {1, 100, 1000}) {
    options.chunk_bytes = chunk;
    options.threads = 3;
    Prepare(options);
    EXPECT_TRUE(ReadFile(options.output) == bytes) << chunk;
  }
}

TEST(PrepareText, TextIsCutBetweenLinesOfLetters) {
  EXPECT_EQ(FindTextCut("ab\ncd", 0), 3);
  EXPECT_EQ(FindTextCut("ab\ncd", 3), 3);
  EXPECT_EQ(FindTextCut("ab\ncd", 4), 5);
  EXPECT_EQ(FindTextCut("a.\nc\n\nd\n e\nf1\n2", 0), 11);
  EXPECT_EQ(FindTextCut("a.\nc\n\nd\n e\nf1\n2", 12), 15);
  EXPECT_EQ(FindTextCut("", 0), 0);
  EXPECT_EQ(FindTextCut("\n", 7), 1);
}

}  // namespace
}  // namespace hearth
