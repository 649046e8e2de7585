#include "runtime/data/hearth_format.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>

#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/token_file.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::MessageOf;
using test::ReadFile;
using test::SomeTokens;
using test::TemporaryFolder;

struct Content {
  std::vector<std::vector<int32_t>> documents;
  std::vector<std::vector<uint8_t>> masks;  // empty, or like documents
};

void WriteHearth(const HearthWriterOptions& options, const Content& content) {
  HearthWriter writer(options);
  for (size_t i = 0; i < content.documents.size(); ++i) {
    const std::vector<int32_t>& tokens = content.documents[i];
    const size_t half = tokens.size() / 2;  // in two pieces: a document is what EndDocument ends
    const auto mask = content.masks.empty() ? std::span<const uint8_t>() : content.masks[i];
    writer.Append(std::span(tokens).first(half), mask.empty() ? mask : mask.first(half));
    writer.Append(std::span(tokens).subspan(half), mask.empty() ? mask : mask.subspan(half));
    writer.EndDocument();
  }
  writer.Finish();
}

std::vector<int32_t> AllTokens(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.token_count()));
  file.ReadTokens(0, tokens);
  return tokens;
}

HearthWriterOptions Options(std::string path, int64_t vocab, int64_t width = 2) {
  HearthWriterOptions options;
  options.path = std::move(path);
  options.vocab_size = vocab;
  options.bytes_per_token = width;
  options.tokenizer_name = "some tokenizer";
  options.tokenizer_hash = {.low = 1, .high = 2};
  return options;
}

TEST(HearthFormat, RoundTripKeepsTokensDocumentsAndMask) {
  const TemporaryFolder folder;
  for (const int64_t width : {2, 4}) {
    const int32_t vocab = width == 2 ? 60000 : 150000;
    Content content;
    std::vector<int32_t> all;
    std::vector<uint8_t> all_mask;
    std::vector<int64_t> starts;
    for (const int64_t length : {5, 0, 1, 200000, 13}) {
      content.documents.push_back(SomeTokens(length, vocab, static_cast<uint32_t>(length)));
      content.masks.emplace_back();
      for (int64_t i = 0; i < length; ++i) content.masks.back().push_back(i % 3 == 0);
      if (length > 0) starts.push_back(static_cast<int64_t>(all.size()));
      all.insert(all.end(), content.documents.back().begin(), content.documents.back().end());
      all_mask.insert(all_mask.end(), content.masks.back().begin(), content.masks.back().end());
    }
    HearthWriterOptions options = Options(folder.Path("a.hearth"), vocab, width);
    options.has_loss_mask = true;
    options.sample_tokens = 4096;
    WriteHearth(options, content);

    const auto file = TokenFile::Open(options.path);
    EXPECT_EQ(file->format(), TokenFormat::kHearth);
    EXPECT_EQ(file->token_count(), std::ssize(all));
    EXPECT_EQ(file->vocab_size(), vocab);
    EXPECT_EQ(file->tokenizer_name(), "some tokenizer");
    EXPECT_EQ(file->tokenizer_hash(), (Hash128{1, 2}));
    EXPECT_EQ(file->sample_tokens(), 4096);
    EXPECT_EQ(AllTokens(*file), all);
    const auto read_starts = file->DocumentStarts();
    EXPECT_EQ(std::vector<int64_t>(read_starts.begin(), read_starts.end()), starts);
    for (const int64_t begin : {0, 1, 7, 199999}) {
      std::vector<uint8_t> mask(19);
      file->ReadLossMask(begin, mask);
      EXPECT_TRUE(std::equal(mask.begin(), mask.end(), all_mask.begin() + begin)) << begin;
    }
    file->Verify();
    EXPECT_EQ(folder.Names(), std::vector<std::string>{"a.hearth"});
  }
}

TEST(HearthFormat, HeaderFieldsLieWhereTheFormatSays) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.hearth");
  WriteHearth(Options(path, 300), {{{7, 8, 9}, {299}}, {}});
  const std::string bytes = ReadFile(path);
  // 256 header, 4 uint16, 2 int64, one block hash.
  ASSERT_EQ(bytes.size(), 256u + 8 + 16 + 8);
  EXPECT_EQ(bytes.substr(0, 8), "HEARTH\r\n");
  const auto word = [&](size_t offset) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + offset, 8);
    return value;
  };
  EXPECT_EQ(word(8), 1u | uint64_t{256} << 32);  // version, header bytes
  EXPECT_EQ(word(16), 2u);                       // bytes per token, flags
  EXPECT_EQ(word(24), 4u);                       // tokens
  EXPECT_EQ(word(32), 300u);                     // vocabulary
  EXPECT_EQ(word(40), 2u);                       // documents
  EXPECT_EQ(word(168), 0u);                      // tokens of packed samples
  EXPECT_EQ(bytes.substr(256, 8), test::Packed<uint16_t>({7, 8, 9, 299}));
  EXPECT_EQ(bytes.substr(264, 16), test::Packed<int64_t>({0, 3}));
}

TEST(HearthFormat, SameContentSameBytes) {
  const TemporaryFolder folder;
  const Content content{{SomeTokens(3000, 256), SomeTokens(10, 256, 1)}, {}};
  WriteHearth(Options(folder.Path("a.hearth"), 256), content);
  WriteHearth(Options(folder.Path("b.hearth"), 256), content);
  EXPECT_EQ(ReadFile(folder.Path("a.hearth")), ReadFile(folder.Path("b.hearth")));
  const auto a = TokenFile::Open(folder.Path("a.hearth"))->ShardHashes();
  const auto b = TokenFile::Open(folder.Path("b.hearth"))->ShardHashes();
  ASSERT_EQ(a.size(), 1u);
  EXPECT_EQ(a[0].hash, b[0].hash);
}

TEST(HearthFormat, EveryFlippedBitIsFound) {
  const TemporaryFolder folder;
  HearthWriterOptions options = Options(folder.Path("a.hearth"), 256);
  options.has_loss_mask = true;
  WriteHearth(options, {{SomeTokens(21, 256), SomeTokens(30, 256)}, {}});
  const std::string good = ReadFile(options.path);
  ASSERT_NO_THROW(TokenFile::Open(options.path)->Verify());
  for (size_t byte = 0; byte < good.size(); ++byte) {
    for (const int bit : {0, 3, 7}) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ 1 << bit);
      const std::string path = folder.Write("bad.hearth", bad);
      const std::string message =
          MessageOf<IoError>([&] { TokenFile::Open(path, TokenFormat::kHearth)->Verify(); });
      EXPECT_NE(message, "") << "byte " << byte << " bit " << bit;
      EXPECT_EQ(message.rfind(path + ": error: ", 0), 0u) << message;
    }
  }
}

TEST(HearthFormat, EveryTruncationAndExtensionIsFound) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.hearth");
  WriteHearth(Options(path, 256), {{SomeTokens(21, 256), SomeTokens(30, 256)}, {}});
  const std::string good = ReadFile(path);
  for (size_t size = 0; size < good.size(); ++size) {
    const std::string bad = folder.Write("bad.hearth", good.substr(0, size));
    EXPECT_THROW(TokenFile::Open(bad, TokenFormat::kHearth)->Verify(), IoError) << size;
  }
  const std::string longer = folder.Write("bad.hearth", good + '\0');
  EXPECT_THROW(TokenFile::Open(longer, TokenFormat::kHearth), IoError);
}

// A header that lies with a matching hash: what a hostile writer can do and bit rot cannot.
TEST(HearthFormat, ConsistentlyHashedLiesAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.hearth");
  WriteHearth(Options(path, 256), {{SomeTokens(21, 256), SomeTokens(30, 256)}, {}});
  const std::string good = ReadFile(path);
  HearthHeader original;
  std::memcpy(&original, good.data(), sizeof(original));
  const auto refuse = [&](const char* what, auto change) {
    HearthHeader header = original;
    change(header);
    const std::string table = good.substr(original.block_table_offset);
    header.content_hash = HearthContentHash(header, std::as_bytes(std::span(table)));
    std::string bad = good;
    std::memcpy(bad.data(), &header, sizeof(header));
    const std::string bad_path = folder.Write("bad.hearth", bad);
    EXPECT_THROW(TokenFile::Open(bad_path)->Verify(), IoError) << what;
  };
  constexpr uint64_t kHuge = ~uint64_t{0};
  refuse("tokens", [](HearthHeader& h) { h.token_count = kHuge; });
  refuse("half of the tokens", [](HearthHeader& h) { h.token_count = kHuge / 2 + 2; });
  refuse("documents", [](HearthHeader& h) { h.document_count = kHuge / 8 + 2; });
  refuse("no documents", [](HearthHeader& h) { h.document_count = 0; });
  refuse("vocabulary 0", [](HearthHeader& h) { h.vocab_size = 0; });
  refuse("vocabulary", [](HearthHeader& h) { h.vocab_size = kHuge; });
  refuse("ids beyond the vocabulary", [](HearthHeader& h) { h.vocab_size = 10; });
  refuse("block bytes 0", [](HearthHeader& h) { h.block_bytes = 0; });
  refuse("block bytes odd", [](HearthHeader& h) { h.block_bytes = 4097; });
  refuse("block bytes", [](HearthHeader& h) { h.block_bytes = uint64_t{1} << 63; });
  refuse("offset", [](HearthHeader& h) { h.documents_offset = kHuge - 7; });
  refuse("table", [](HearthHeader& h) { h.block_table_offset = 0; });
  refuse("file bytes", [](HearthHeader& h) { h.file_bytes = kHuge; });
  refuse("version", [](HearthHeader& h) { h.version = 2; });
  refuse("flags", [](HearthHeader& h) { h.flags = 2; });
  refuse("mask that is not there", [](HearthHeader& h) { h.flags = 1; });
  refuse("width", [](HearthHeader& h) { h.bytes_per_token = 3; });
  refuse("width 0", [](HearthHeader& h) { h.bytes_per_token = 0; });
  refuse("name without an end", [](HearthHeader& h) { h.tokenizer_name.fill('x'); });
}

TEST(HearthFormat, DocumentStartsOutOfOrderAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.hearth");
  WriteHearth(Options(path, 256), {{SomeTokens(21, 256), SomeTokens(30, 256)}, {}});
  const std::string good = ReadFile(path);
  HearthHeader header;
  std::memcpy(&header, good.data(), sizeof(header));
  const std::vector<std::vector<int64_t>> lies = {{0, 0}, {1, 21}, {0, 51}, {0, -1}, {21, 0}};
  for (const std::vector<int64_t>& starts : lies) {
    std::string bad = good;
    bad.replace(header.documents_offset, 16, test::Packed<int64_t>(starts));
    const std::string payload =
        bad.substr(sizeof(header), header.block_table_offset - sizeof(header));
    std::string table;
    test::Put(table, Xxh3Hash64(std::as_bytes(std::span(payload))));
    bad.replace(header.block_table_offset, 8, table);
    header.content_hash = HearthContentHash(header, std::as_bytes(std::span(table)));
    std::memcpy(bad.data(), &header, sizeof(header));
    const auto file = TokenFile::Open(folder.Write("bad.hearth", bad));
    EXPECT_THROW(file->DocumentStarts(), IoError);
    EXPECT_THROW(file->DocumentStarts(), IoError);  // not only the first time
  }
}

TEST(HearthFormat, WriterLeavesNothingWithoutFinish) {
  const TemporaryFolder folder;
  folder.Write("a.hearth", "the old one");
  {
    HearthWriter writer(Options(folder.Path("a.hearth"), 256));
    writer.Append(SomeTokens(200000, 256));
    EXPECT_EQ(folder.Names().size(), 2u);
    EXPECT_THROW(writer.Append(std::vector<int32_t>{256}), IoError);
  }
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"a.hearth"});
  EXPECT_EQ(ReadFile(folder.Path("a.hearth")), "the old one");
  EXPECT_THROW(HearthWriter(Options(folder.Path("missing/a.hearth"), 256)), IoError);
}

TEST(HearthFormat, ModelVocabularyIsALimit) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.hearth");
  WriteHearth(Options(path, 300), {{{1, 2, 3}}, {}});
  EXPECT_NO_THROW(TokenFile::Open(path, TokenFormat::kAuto, 300));
  EXPECT_THROW(TokenFile::Open(path, TokenFormat::kAuto, 299), ConfigError);
}

// Defect 6: 2^31 tokens and more. The file is sparse; only its last block is ever read.
TEST(HearthFormat, MoreThanTwoToTheThirtyFirstTokens) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("large.hearth");
  constexpr int64_t kTokens = (int64_t{1} << 31) + 12 * kHearthBlockBytes / 2;
  HearthHeader header{};
  header.magic = kHearthMagic;
  header.version = kHearthVersion;
  header.header_bytes = sizeof(header);
  header.bytes_per_token = 2;
  header.token_count = kTokens;
  header.vocab_size = 1000;
  header.block_bytes = kHearthBlockBytes;
  const HearthExtents extents = ComputeHearthExtents(header);
  header.documents_offset = static_cast<uint64_t>(extents.documents_offset);
  header.mask_offset = static_cast<uint64_t>(extents.mask_offset);
  header.block_table_offset = static_cast<uint64_t>(extents.block_table_offset);
  header.file_bytes = static_cast<uint64_t>(extents.file_bytes);

  std::vector<uint16_t> last(static_cast<size_t>(kHearthBlockBytes / 2), 0);
  last[last.size() - 1] = 999;
  last[last.size() - 2] = 17;
  const std::vector<std::byte> zeros(static_cast<size_t>(kHearthBlockBytes));
  std::vector<uint64_t> table(static_cast<size_t>(extents.blocks), Xxh3Hash64(zeros));
  table.back() = Xxh3Hash64(std::as_bytes(std::span(last)));
  header.content_hash = HearthContentHash(header, std::as_bytes(std::span(table)));

  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(ftruncate(descriptor, extents.file_bytes), 0);
  ASSERT_EQ(pwrite(descriptor, &header, sizeof(header), 0), ssize_t{sizeof(header)});
  const int64_t last_offset = extents.block_table_offset - kHearthBlockBytes;
  ASSERT_EQ(pwrite(descriptor, last.data(), zeros.size(), last_offset), kHearthBlockBytes);
  ASSERT_EQ(pwrite(descriptor, table.data(), table.size() * 8, extents.block_table_offset),
            extents.blocks * 8);
  close(descriptor);

  const auto file = TokenFile::Open(path);
  EXPECT_EQ(file->token_count(), kTokens);
  std::vector<int32_t> tokens(3);
  file->ReadTokens(kTokens - 3, tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, 17, 999}));
  file->ReadTokens(int64_t{1} << 31, tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, 0, 0}));
}

}  // namespace
}  // namespace hearth
