#include "runtime/data/token_dataset.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::MessageOf;
using test::SomeTokens;
using test::TemporaryFolder;

struct Row {
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<int32_t> positions;
  std::vector<int32_t> sequence_lengths;
  int64_t target_count = 0;
};

Row Read(const TokenDataset& data, const SampleLocation& location) {
  const size_t length = static_cast<size_t>(data.sequence_len());
  Row row{.tokens = std::vector<int32_t>(length, -7),
          .targets = std::vector<int32_t>(length, -7),
          .positions = std::vector<int32_t>(length, -7),
          .sequence_lengths = {}};
  row.target_count = data.ReadSample(
      location, {.tokens = row.tokens, .targets = row.targets, .positions = row.positions},
      &row.sequence_lengths);
  return row;
}

void WriteShard(const std::string& path, const std::vector<std::vector<int32_t>>& documents,
                const std::vector<uint8_t>& mask = {}) {
  HearthWriterOptions options;
  options.path = path;
  options.vocab_size = 256;
  options.has_loss_mask = !mask.empty();
  HearthWriter writer(options);
  size_t at = 0;
  for (const std::vector<int32_t>& document : documents) {
    const auto part =
        mask.empty() ? std::span<const uint8_t>() : std::span(mask).subspan(at, document.size());
    writer.Append(document, part);
    writer.EndDocument();
    at += document.size();
  }
  writer.Finish();
}

std::vector<std::vector<int32_t>> Documents(const std::vector<int64_t>& lengths) {
  std::vector<std::vector<int32_t>> documents;
  for (const int64_t length : lengths) {
    documents.push_back(SomeTokens(length, 256, static_cast<uint32_t>(documents.size() + 1)));
  }
  return documents;
}

std::vector<int32_t> Joined(const std::vector<std::vector<int32_t>>& documents) {
  std::vector<int32_t> all;
  for (const auto& document : documents) all.insert(all.end(), document.begin(), document.end());
  return all;
}

// Contract: a file of n tokens holds floor((n-1)/sequence_len) samples at offsets k*sequence_len.
TEST(TokenDataset, SamplesOfAFile) {
  const TemporaryFolder folder;
  for (const auto& [tokens, samples] :
       std::map<int64_t, int64_t>{{0, 0}, {1, 0}, {8, 0}, {9, 1}, {16, 1}, {17, 2}, {100, 12}}) {
    const std::string path = folder.Path("n" + std::to_string(tokens) + ".hearth");
    WriteShard(path, {SomeTokens(tokens, 256)});
    const auto open = [&, &path = path] {
      return TokenDataset({{.path_glob = path}},
                          {.sequence_len = 8, .ordering = SampleOrdering::kSequential});
    };
    if (samples == 0) {
      EXPECT_THROW(open(), ConfigError);
      continue;
    }
    const TokenDataset data = open();
    EXPECT_EQ(data.samples_per_epoch(), samples);
    std::vector<DatasetFiles> opened(1);
    opened[0].files.push_back(TokenFile::Open(path));
    EXPECT_EQ(TokenDataset::OfFiles(std::move(opened), data.options()).samples_per_epoch(),
              samples);
    const std::vector<int32_t> all = SomeTokens(tokens, 256);
    for (int64_t k = 0; k < samples; ++k) {
      EXPECT_EQ(data.Locate(k), (SampleLocation{0, 0, 0, k * 8}));
      const Row row = Read(data, data.Locate(k));
      EXPECT_TRUE(std::equal(row.tokens.begin(), row.tokens.end(), all.begin() + k * 8));
      EXPECT_TRUE(std::equal(row.targets.begin(), row.targets.end(), all.begin() + k * 8 + 1));
      EXPECT_EQ(row.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
      EXPECT_EQ(row.sequence_lengths, std::vector<int32_t>{8});
      EXPECT_EQ(row.target_count, 8);
    }
  }
}

// An oracle by token: where its document begins and whether it counts.
void CheckPacked(const std::vector<int64_t>& lengths, int64_t sequence_len,
                 const std::vector<uint8_t>& mask) {
  const TemporaryFolder folder;
  const std::vector<std::vector<int32_t>> documents = Documents(lengths);
  WriteShard(folder.Path("a.hearth"), documents, mask);
  const std::vector<int32_t> all = Joined(documents);
  std::vector<int64_t> document_of;
  for (size_t d = 0; d < documents.size(); ++d) {
    document_of.insert(document_of.end(), documents[d].size(), static_cast<int64_t>(d));
  }
  const TokenDataset data({{.path_glob = folder.Path("a.hearth")}},
                          {.sequence_len = sequence_len, .ordering = SampleOrdering::kSequential});
  for (int64_t k = 0; k < data.samples_per_epoch(); ++k) {
    const Row row = Read(data, data.Locate(k));
    int32_t position = -1;
    int64_t counted = 0;
    std::vector<int32_t> sequence_lengths;
    for (int64_t i = 0; i < sequence_len; ++i) {
      const size_t at = static_cast<size_t>(k * sequence_len + i);
      const bool begins = i == 0 || document_of[at] != document_of[at - 1];
      position = begins ? 0 : position + 1;
      if (begins) sequence_lengths.push_back(0);
      ++sequence_lengths.back();
      const bool counts =
          document_of[at + 1] == document_of[at] && (mask.empty() || mask[at + 1] != 0);
      counted += counts;
      const size_t column = static_cast<size_t>(i);
      EXPECT_EQ(row.tokens[column], all[at]);
      EXPECT_EQ(row.targets[column], counts ? all[at + 1] : -1) << k << ", " << i;
      EXPECT_EQ(row.positions[column], position) << k << ", " << i;
    }
    EXPECT_EQ(row.sequence_lengths, sequence_lengths);
    EXPECT_EQ(row.target_count, counted);
  }
}

TEST(TokenDataset, PackedDocumentsAreIsolated) {
  CheckPacked({5, 1, 1, 20, 8, 3, 40, 2}, 8, {});
  CheckPacked({8, 8, 8, 9}, 8, {});  // documents that end where samples end
  CheckPacked({1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 4, {});
  CheckPacked({100}, 7, {});
  CheckPacked({3, 4, 5}, 1, {});
}

// Defect 5, the data's part: what is masked is not counted.
TEST(TokenDataset, LossMasksAreHonoured) {
  std::vector<uint8_t> mask;
  for (int i = 0; i < 80; ++i) mask.push_back(i % 5 == 0 || i % 7 == 3);
  CheckPacked({5, 1, 1, 20, 8, 3, 40, 2}, 8, mask);
  CheckPacked({80}, 16, mask);
  CheckPacked({80}, 16, std::vector<uint8_t>(80, 0));
}

TEST(TokenDataset, WithoutPackingASampleIsOnePlainSequence) {
  const TemporaryFolder folder;
  const auto documents = Documents({5, 1, 20});
  WriteShard(folder.Path("a.hearth"), documents);
  const TokenDataset data(
      {{.path_glob = folder.Path("a.hearth")}},
      {.sequence_len = 8, .sample_packing = false, .ordering = SampleOrdering::kSequential});
  const std::vector<int32_t> all = Joined(documents);
  const Row row = Read(data, data.Locate(0));
  EXPECT_TRUE(std::equal(row.targets.begin(), row.targets.end(), all.begin() + 1));
  EXPECT_EQ(row.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(row.sequence_lengths, std::vector<int32_t>{8});
  EXPECT_EQ(row.target_count, 8);
}

TEST(TokenDataset, FilesAreInByteOrderAndSamplesNeverCrossThem) {
  const TemporaryFolder folder;
  // Byte order: upper case before lower, "a10" before "a9"; a locale would say otherwise.
  const std::vector<std::string> names = {"B.hearth", "a10.hearth", "a9.hearth", "b.hearth"};
  std::vector<std::vector<int32_t>> files;
  for (size_t i = 0; i < names.size(); ++i) {
    files.push_back(SomeTokens(17 + 10 * static_cast<int64_t>(i), 256, static_cast<uint32_t>(i)));
    WriteShard(folder.Path(names[names.size() - 1 - i]), {SomeTokens(3, 256)});
  }
  for (size_t i = 0; i < names.size(); ++i) WriteShard(folder.Path(names[i]), {files[i]});
  std::filesystem::create_directory(folder.Path("c.hearth"));  // not a file: no match
  const TokenDataset data({{.path_glob = folder.Path("*.hearth")}},
                          {.sequence_len = 8, .ordering = SampleOrdering::kSequential});
  int64_t index = 0;
  for (size_t file = 0; file < files.size(); ++file) {
    EXPECT_EQ(data.Files()[file]->path(), folder.Path(names[file]));
    for (int64_t k = 0; k < (std::ssize(files[file]) - 1) / 8; ++k, ++index) {
      EXPECT_EQ(data.Locate(index), (SampleLocation{0, 0, static_cast<int64_t>(file), k * 8}));
      const Row row = Read(data, data.Locate(index));
      EXPECT_TRUE(std::equal(row.tokens.begin(), row.tokens.end(), files[file].begin() + k * 8));
    }
  }
  EXPECT_EQ(index, data.samples_per_epoch());
}

TEST(TokenDataset, ShuffledEpochVisitsEverySampleOfEveryFileOnce) {
  const TemporaryFolder folder;
  WriteShard(folder.Path("a1.hearth"), {SomeTokens(100, 256, 1)});
  WriteShard(folder.Path("a2.hearth"), {SomeTokens(50, 256, 2)});
  WriteShard(folder.Path("b.hearth"), {SomeTokens(81, 256, 3)});
  const TokenDataset data({{.path_glob = folder.Path("a*")}, {.path_glob = folder.Path("b*")}},
                          {.sequence_len = 8});
  ASSERT_EQ(data.samples_per_epoch(), 12 + 6 + 10);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::map<std::tuple<int64_t, int64_t, int64_t>, int> seen;
    for (int64_t i = epoch * 28; i < (epoch + 1) * 28; ++i) {
      const SampleLocation location = data.Locate(i);
      EXPECT_EQ(location.epoch, epoch);
      ++seen[{location.dataset, location.file, location.offset}];
    }
    EXPECT_EQ(seen.size(), 28u);
  }
}

TEST(TokenDataset, RefusesWhatCannotBeRead) {
  const TemporaryFolder folder;
  WriteShard(folder.Path("a.hearth"), {SomeTokens(100, 256)});
  const std::string path = folder.Path("a.hearth");
  EXPECT_THROW(TokenDataset({{.path_glob = folder.Path("none-*")}}, {}), ConfigError);
  EXPECT_THROW(TokenDataset({}, {}), ConfigError);
  EXPECT_THROW(TokenDataset({{.path_glob = ""}}, {}), ConfigError);
  EXPECT_THROW(TokenDataset({{.path_glob = path}}, {.sequence_len = 100}), ConfigError);
  EXPECT_THROW(TokenDataset({{.path_glob = path}}, {.sequence_len = 0}), ConfigError);
  EXPECT_THROW(TokenDataset({{.path_glob = path}}, {.sequence_len = 8, .vocab_limit = 255}),
               ConfigError);
  EXPECT_THROW(TokenDataset({{.path_glob = path, .format = TokenFormat::kLlmq}}, {}), IoError);
  EXPECT_THROW(TokenDataset({{.path_glob = path, .weight = 2.0}},
                            {.sequence_len = 8, .ordering = SampleOrdering::kSequential}),
               ConfigError);
  const std::string message =
      MessageOf<ConfigError>([&] { TokenDataset({{.path_glob = folder.Path("none-*")}}, {}); });
  EXPECT_EQ(message.rfind(folder.Path("none-*") + ": error: ", 0), 0u) << message;
}

TEST(TokenDataset, ShardHashesTellChangedData) {
  const TemporaryFolder folder;
  const auto hashes = [&] {
    return TokenDataset({{.path_glob = folder.Path("a*.hearth")},
                         {.path_glob = folder.Path("b.bin"), .format = TokenFormat::kNanogpt}},
                        {.sequence_len = 8})
        .ShardHashes();
  };
  const std::string raw = test::Packed<uint16_t>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  WriteShard(folder.Path("a1.hearth"), {SomeTokens(100, 256, 1)});
  WriteShard(folder.Path("a2.hearth"), {SomeTokens(100, 256, 2)});
  folder.Write("b.bin", raw);
  const std::vector<ShardHash> saved = hashes();
  ASSERT_EQ(saved.size(), 3u);
  EXPECT_EQ(saved[2].bytes, std::ssize(raw));
  EXPECT_EQ(saved[2].hash, Xxh3Hash128(raw));
  EXPECT_NO_THROW(RequireSameShards(saved, hashes()));

  WriteShard(folder.Path("a2.hearth"), {SomeTokens(100, 256, 3)});
  EXPECT_THROW(RequireSameShards(saved, hashes()), ConfigError);
  WriteShard(folder.Path("a2.hearth"), {SomeTokens(100, 256, 2)});
  EXPECT_NO_THROW(RequireSameShards(saved, hashes()));

  folder.Write("b.bin", test::Packed<uint16_t>({1, 2, 3, 4, 5, 6, 7, 8, 9, 11}));
  const std::string message = MessageOf<ConfigError>([&] { RequireSameShards(saved, hashes()); });
  EXPECT_EQ(message.rfind(folder.Path("b.bin") + ": error: the data changed", 0), 0u) << message;
  folder.Write("b.bin", raw);
  WriteShard(folder.Path("a3.hearth"), {SomeTokens(100, 256, 2)});
  EXPECT_THROW(RequireSameShards(saved, hashes()), ConfigError);
}

}  // namespace
}  // namespace hearth
