#include "runtime/data/token_formats.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/token_file.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::LlmcFile;
using test::LlmqFile;
using test::MegatronIndex;
using test::MegatronIndexFields;
using test::Packed;
using test::PackedBits;
using test::TemporaryFolder;

constexpr int32_t kLlmc16 = 20240520;
constexpr int32_t kLlmc32 = 20240801;

std::vector<int32_t> Tokens(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.token_count()));
  file.ReadTokens(0, tokens);
  return tokens;
}

std::vector<int64_t> Starts(const TokenFile& file) {
  const auto starts = file.DocumentStarts();
  return {starts.begin(), starts.end()};
}

TEST(TokenFormats, Llmc) {
  const TemporaryFolder folder;
  const auto narrow = TokenFile::Open(
      folder.Write("a.bin", LlmcFile(kLlmc16, 1, 4, Packed<uint16_t>({1, 50256, 65535, 0}))));
  EXPECT_EQ(narrow->format(), TokenFormat::kLlmc);
  EXPECT_EQ(Tokens(*narrow), (std::vector<int32_t>{1, 50256, 65535, 0}));
  EXPECT_EQ(narrow->vocab_size(), 0);
  EXPECT_FALSE(narrow->has_documents());
  const auto wide = TokenFile::Open(
      folder.Write("b.bin", LlmcFile(kLlmc32, 7, 2, Packed<uint32_t>({128000, 5}))));
  EXPECT_EQ(Tokens(*wide), (std::vector<int32_t>{128000, 5}));
}

TEST(TokenFormats, LlmcHostile) {
  const TemporaryFolder folder;
  const std::string tokens = Packed<uint16_t>({1, 2, 3});
  const auto refuse = [&](const std::string& content) {
    const std::string path = folder.Write("a.bin", content);
    EXPECT_THROW(TokenFile::Open(path, TokenFormat::kLlmc), IoError);
  };
  refuse("");
  refuse(LlmcFile(kLlmc16, 1, 3, tokens).substr(0, 1023));
  refuse(LlmcFile(kLlmc16, 1, 4, tokens));
  refuse(LlmcFile(kLlmc16, 1, 2, tokens));
  refuse(LlmcFile(kLlmc16, 1, -1, ""));
  refuse(LlmcFile(kLlmc16, 1, INT32_MAX, tokens));
  refuse(LlmcFile(kLlmc16, 1, INT32_MIN, tokens));
  refuse(LlmcFile(kLlmc16, 7, 3, tokens));
  refuse(LlmcFile(kLlmc32, 1, 3, Packed<uint32_t>({1, 2, 3})));
  refuse(LlmcFile(1, 1, 3, tokens));
}

TEST(TokenFormats, IdsOutsideTheVocabularyAreRefusedWhenRead) {
  const TemporaryFolder folder;
  const std::string wide =
      folder.Write("a.bin", LlmcFile(kLlmc32, 7, 3, Packed<uint32_t>({1, 0xFFFFFFFF, 2})));
  const auto file = TokenFile::Open(wide);
  EXPECT_THROW(Tokens(*file), IoError);
  EXPECT_THROW(file->Verify(), IoError);
  const auto limited = TokenFile::Open(
      folder.Write("b.bin", LlmcFile(kLlmc16, 1, 3, Packed<uint16_t>({1, 99, 100}))),
      TokenFormat::kAuto, 100);
  std::vector<int32_t> two(2);
  limited->ReadTokens(0, two);
  EXPECT_EQ(two[1], 99);
  EXPECT_THROW(limited->ReadTokens(1, two), IoError);
}

TEST(TokenFormats, NanogptMustBeNamed) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("train.bin", Packed<uint16_t>({3, 1, 4, 1, 5}));
  EXPECT_THROW(TokenFile::Open(path), ConfigError);
  const auto file = TokenFile::Open(path, TokenFormat::kNanogpt);
  EXPECT_EQ(Tokens(*file), (std::vector<int32_t>{3, 1, 4, 1, 5}));
  EXPECT_THROW(TokenFile::Open(folder.Write("odd.bin", "abc"), TokenFormat::kNanogpt), IoError);
}

TEST(TokenFormats, NanogptBeyondTwoToTheThirtyFirstTokens) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("large.bin", "");
  constexpr int64_t kTokens = (int64_t{1} << 31) + 5;
  ASSERT_EQ(truncate(path.c_str(), kTokens * 2), 0);
  const int descriptor = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const uint16_t last = 4321;
  ASSERT_EQ(pwrite(descriptor, &last, 2, (kTokens - 1) * 2), 2);
  close(descriptor);
  const auto file = TokenFile::Open(path, TokenFormat::kNanogpt);
  EXPECT_EQ(file->token_count(), kTokens);
  std::vector<int32_t> tokens(2);
  file->ReadTokens(kTokens - 2, tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, 4321}));
}

TEST(TokenFormats, Llmq) {
  const TemporaryFolder folder;
  const std::string tokens = Packed<int32_t>({5, 6, 7, 8, 9, 10, 11, 12, 13, 151000});
  const std::vector<int> bits = {0, 0, 1, 1, 1, 1, 1, 0, 0, 1};
  const auto masked =
      TokenFile::Open(folder.Write("a.bin", LlmqFile(2, 10, 151665, 1, tokens, PackedBits(bits))));
  EXPECT_EQ(masked->format(), TokenFormat::kLlmq);
  EXPECT_EQ(masked->vocab_size(), 151665);
  EXPECT_EQ(Tokens(*masked).back(), 151000);
  std::vector<uint8_t> mask(10);
  masked->ReadLossMask(0, mask);
  EXPECT_EQ(std::vector<int>(mask.begin(), mask.end()), bits);

  const auto plain = TokenFile::Open(folder.Write("b.bin", LlmqFile(2, 10, 151665, 0, tokens, "")));
  EXPECT_FALSE(plain->has_loss_mask());
  // Early files: the fields behind the vocabulary are filler, version 1 has no vocabulary either.
  const auto filler =
      TokenFile::Open(folder.Write("c.bin", LlmqFile(2, 10, 151665, 0x2A2A2A2A, tokens, "")));
  EXPECT_FALSE(filler->has_loss_mask());
  const auto first =
      TokenFile::Open(folder.Write("d.bin", LlmqFile(1, 10, 0x2A2A2A2A, 0x2A2A2A2A, tokens, "")));
  EXPECT_EQ(first->vocab_size(), 0);
}

TEST(TokenFormats, LlmqHostile) {
  const TemporaryFolder folder;
  const std::string tokens = Packed<int32_t>({1, 2, 3});
  const auto refuse = [&](const std::string& content) {
    const std::string path = folder.Write("a.bin", content);
    EXPECT_THROW(TokenFile::Open(path, TokenFormat::kLlmq)->Verify(), IoError);
  };
  refuse("BIN.TOK\n");
  refuse(std::string(1024, '\0') + tokens);
  refuse(LlmqFile(3, 3, 100, 0, tokens, ""));
  refuse(LlmqFile(2, 4, 100, 0, tokens, ""));
  refuse(LlmqFile(2, -3, 100, 0, tokens, ""));
  refuse(LlmqFile(2, INT32_MAX, 100, 1, tokens, ""));
  refuse(LlmqFile(2, 3, -1, 0, tokens, ""));
  refuse(LlmqFile(2, 3, 100, 1, tokens, ""));
  refuse(LlmqFile(2, 3, 100, 7, tokens, "x"));
  refuse(LlmqFile(2, 3, 3, 0, tokens, ""));  // id 3 of a vocabulary of 3
  refuse(LlmqFile(2, 3, 100, 0, Packed<int32_t>({1, -1, 2}), ""));
}

class Megatron : public ::testing::Test {
 protected:
  void WritePair(const MegatronIndexFields& fields, const std::string& bin) const {
    folder_.Write("a.idx", MegatronIndex(fields));
    folder_.Write("a.bin", bin);
  }
  void ExpectRefused(const MegatronIndexFields& fields, const std::string& bin) const {
    WritePair(fields, bin);
    EXPECT_THROW(TokenFile::Open(folder_.Path("a.bin"), TokenFormat::kMegatron), IoError);
  }
  TemporaryFolder folder_;
};

TEST_F(Megatron, SequencesAndDocuments) {
  // Sequences of 2, 0, 3, 1 tokens; documents of sequences {0}, {1, 2}, {3}.
  WritePair({.lengths = {2, 0, 3, 1}, .pointers = {0, 4, 4, 10}, .documents = {0, 1, 3, 4}},
            Packed<uint16_t>({10, 11, 20, 21, 22, 65535}));
  for (const char* name : {"a.bin", "a.idx", "a"}) {
    const bool has_mark = std::string_view(name) != "a";
    const auto file =
        TokenFile::Open(folder_.Path(name), has_mark ? TokenFormat::kAuto : TokenFormat::kMegatron);
    EXPECT_EQ(file->format(), TokenFormat::kMegatron);
    EXPECT_EQ(Tokens(*file), (std::vector<int32_t>{10, 11, 20, 21, 22, 65535}));
    EXPECT_EQ(Starts(*file), (std::vector<int64_t>{0, 2, 5}));
    EXPECT_EQ(file->ShardHashes().size(), 2u);
  }
  EXPECT_EQ(ExpandTokenFiles(folder_.Path("a.*"), TokenFormat::kAuto),
            std::vector<std::string>{folder_.Path("a.bin")});
  EXPECT_EQ(ExpandTokenFiles(folder_.Path("a"), TokenFormat::kMegatron),
            std::vector<std::string>{folder_.Path("a.bin")});
}

TEST_F(Megatron, EveryIntegerType) {
  const std::vector<int64_t> values = {1, 2, 100};
  const auto check = [&](uint8_t code, int64_t width, const std::string& bin) {
    WritePair({.code = code, .lengths = {3}, .pointers = {0}, .documents = {0, 1}}, bin);
    EXPECT_EQ(Tokens(*TokenFile::Open(folder_.Path("a.bin"))), (std::vector<int32_t>{1, 2, 100}))
        << int{code} << " of " << width;
  };
  check(1, 1, Packed<uint8_t>(values));
  check(3, 2, Packed<int16_t>(values));
  check(4, 4, Packed<int32_t>(values));
  check(5, 8, Packed<int64_t>(values));
  check(8, 2, Packed<uint16_t>(values));
  for (const uint8_t code : {0, 2, 6, 7, 9, 255}) {
    ExpectRefused({.code = code, .lengths = {3}, .pointers = {0}, .documents = {0, 1}},
                  Packed<uint16_t>(values));
  }
  WritePair({.code = 5, .lengths = {2}, .pointers = {0}, .documents = {0, 1}},
            Packed<int64_t>({1, int64_t{1} << 40}));
  EXPECT_THROW(Tokens(*TokenFile::Open(folder_.Path("a.bin"))), IoError);
}

TEST_F(Megatron, Hostile) {
  const std::string bin = Packed<uint16_t>({1, 2, 3, 4, 5});
  ExpectRefused({.version = 2, .lengths = {5}, .pointers = {0}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {4}, .pointers = {0}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {6}, .pointers = {0}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {-1, 6}, .pointers = {0, -2}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {5}, .pointers = {2}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {2, 3}, .pointers = {0, 0}, .documents = {0, 1}}, bin);
  ExpectRefused({.lengths = {5}, .pointers = {0}, .documents = {0, 2}}, bin);
  ExpectRefused({.lengths = {5}, .pointers = {0}, .documents = {-1}}, bin);
  ExpectRefused({.lengths = {2, 3}, .pointers = {0, 4}, .documents = {1, 0}}, bin);
  ExpectRefused({.lengths = {INT32_MAX}, .pointers = {0}, .documents = {0, 1}}, bin);
  const std::string good =
      MegatronIndex({.lengths = {2, 3}, .pointers = {0, 4}, .documents = {0, 1, 2}});
  folder_.Write("a.bin", bin);
  for (size_t size = 0; size < good.size(); ++size) {
    folder_.Write("a.idx", good.substr(0, size));
    EXPECT_THROW(TokenFile::Open(folder_.Path("a.bin"), TokenFormat::kMegatron), IoError) << size;
  }
  for (const uint64_t count : {~uint64_t{0}, ~uint64_t{0} / 12 + 1, uint64_t{1} << 60}) {
    for (const size_t offset : {size_t{18}, size_t{26}}) {
      std::string lie = good;
      std::memcpy(lie.data() + offset, &count, 8);
      folder_.Write("a.idx", lie);
      EXPECT_THROW(TokenFile::Open(folder_.Path("a.bin"), TokenFormat::kMegatron), IoError);
    }
  }
  unlink(folder_.Path("a.idx").c_str());
  EXPECT_THROW(TokenFile::Open(folder_.Path("a.bin"), TokenFormat::kMegatron), IoError);
}

TEST(TokenFormats, OnlyRegularFiles) {
  const TemporaryFolder folder;
  const std::string pipe = folder.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(TokenFile::Open(pipe, TokenFormat::kNanogpt), IoError);  // and does not wait
  EXPECT_THROW(TokenFile::Open(folder.Path(""), TokenFormat::kNanogpt), IoError);
  EXPECT_THROW(TokenFile::Open(folder.Path("missing"), TokenFormat::kNanogpt), IoError);
  EXPECT_THROW(TokenFile::Open(folder.Write("empty", "")), ConfigError);
}

TEST(TokenFormats, Names) {
  for (const char* name : {"auto", "hearth", "llmc", "nanogpt", "megatron", "llmq"}) {
    EXPECT_EQ(TokenFormatName(ParseTokenFormat(name)), name);
  }
  EXPECT_THROW(ParseTokenFormat("Hearth"), ConfigError);
  EXPECT_THROW(ParseTokenFormat(""), ConfigError);
}

// Any damage either reads as some valid file or is refused as IoError or ConfigError.
TEST(TokenFormats, RandomDamageNeverEscapes) {
  const TemporaryFolder folder;
  {
    HearthWriterOptions options;
    options.path = folder.Path("a.hearth");
    options.has_loss_mask = true;
    HearthWriter writer(options);
    writer.Append(test::SomeTokens(100, 256));
    writer.EndDocument();
    writer.Append(test::SomeTokens(50, 256));
    writer.Finish();
  }
  const std::string words = Packed<int32_t>({5, 6, 7, 8, 9});
  folder.Write("m.bin", Packed<uint16_t>({1, 2, 3, 4, 5}));
  const std::vector<std::pair<std::string, std::string>> corpus = {
      {"a.hearth", test::ReadFile(folder.Path("a.hearth"))},
      {"b.bin", LlmcFile(kLlmc16, 1, 5, Packed<uint16_t>({1, 2, 3, 4, 5}))},
      {"c.bin", LlmqFile(2, 5, 100, 1, words, PackedBits({1, 0, 1, 0, 1}))},
      {"m.idx", MegatronIndex({.lengths = {2, 3}, .pointers = {0, 4}, .documents = {0, 1, 2}})}};
  std::mt19937 random(7);
  int refused = 0;
  int accepted = 0;
  for (const auto& [name, good] : corpus) {
    for (int round = 0; round < 1000; ++round) {
      std::string bad = good;
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int change = 0; change < changes; ++change) {
        constexpr std::array<char, 6> kBytes = {0, 1, -1, 127, -128, 8};
        // Mostly in the headers, where the meaning is.
        const size_t range = random() % 4 == 0 ? bad.size() : std::min<size_t>(bad.size(), 64);
        if (range > 0) bad[random() % range] = kBytes[random() % kBytes.size()];
        if (random() % 16 == 0) bad.resize(random() % (bad.size() + 1));
      }
      const std::string path = folder.Write(name, bad);
      try {
        const auto file = TokenFile::Open(path);
        file->Verify();
        std::vector<uint8_t> mask(static_cast<size_t>(file->token_count()));
        file->ReadLossMask(0, mask);
        ++accepted;
      } catch (const IoError&) {
        ++refused;
      } catch (const ConfigError&) {
        ++refused;
      }
    }
  }
  EXPECT_EQ(refused + accepted, 4000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace hearth
