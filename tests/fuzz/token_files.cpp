// Token files of every format: opened, checked and read to the last token.
#include <algorithm>
#include <cstring>

#include "kernels/core/error.h"
#include "runtime/data/hearth_format.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/little_endian.h"
#include "runtime/data/token_dataset.h"
#include "runtime/data/token_file.h"
#include "runtime/data/token_formats.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

constexpr int64_t kSequenceLength = 5;

void ReadSamples(const TokenDataset& dataset) {
  const TokenFile& file = *dataset.Files()[0];
  const int64_t samples = dataset.samples_per_epoch();
  Require(samples == (file.token_count() - 1) / kSequenceLength, "another number of samples");
  std::vector<int32_t> rows[3];
  for (auto& row : rows) row.resize(kSequenceLength);
  for (int64_t i = 0; i < std::min<int64_t>(samples, 3); ++i) {
    std::vector<int32_t> lengths;
    const int64_t targets =
        dataset.ReadSample(dataset.Locate(i), {rows[0], rows[1], rows[2]}, &lengths);
    int64_t sum = 0;
    for (int32_t length : lengths) {
      Require(length > 0, "a sequence without tokens");
      sum += length;
    }
    Require(sum == kSequenceLength, "sequences that do not fill the sample");
    Require(targets >= 0 && targets <= kSequenceLength, "an impossible number of targets");
    for (int32_t token : rows[0]) Require(token >= 0, "a negative token");
  }
}

void ReadWhole(const TokenFile& opened) {
  const TokenFile* file = &opened;
  const int64_t count = file->token_count();
  std::vector<uint8_t> mask(static_cast<size_t>(std::min<int64_t>(count, 100)));
  file->ReadLossMask(count - static_cast<int64_t>(mask.size()), mask);
  for (uint8_t bit : mask) Require(bit <= 1, "a mask that is neither 0 nor 1");
  int64_t previous = -1;
  for (int64_t start : file->DocumentStarts()) {
    Require(start > previous && start < count, "document starts that do not rise");
    previous = start;
  }
  file->Verify();
  Require(!file->ShardHashes().empty(), "a file without a hash");
  std::vector<int32_t> tokens(static_cast<size_t>(std::min<int64_t>(count, 100)));
  file->ReadTokens(0, tokens);
  for (int32_t token : tokens) {
    Require(token >= 0 && (file->vocab_size() == 0 || token < file->vocab_size()),
            "a token outside the vocabulary");
  }
}

// Everything that can be read of an open file.
void ReadAll(std::unique_ptr<TokenFile> file) {
  ReadWhole(*file);
  std::vector<DatasetFiles> datasets(1);
  datasets[0].name = file->path();
  datasets[0].files.push_back(std::move(file));
  ReadSamples(TokenDataset::OfFiles(std::move(datasets), {.sequence_len = kSequenceLength}));
}

// As a run opens it.
void ReadFromDisk(const std::string& path, TokenFormat format) {
  ReadWhole(*TokenFile::Open(path, format));
  ReadSamples(
      TokenDataset({{.path_glob = path, .format = format}}, {.sequence_len = kSequenceLength}));
}

// Reading beyond the end is seen here, and mostly not behind a mapping.
std::shared_ptr<const MappedFile> InMemory(std::string path, std::string_view bytes) {
  return std::make_shared<const MappedFile>(std::move(path), std::as_bytes(std::span(bytes)));
}

using Parser = TokenLayout (*)(std::shared_ptr<const MappedFile> file);

int FuzzFormat(std::string_view bytes, TokenFormat format, Parser parse) {
  if (IsReadFromDisk(bytes)) {
    static MemoryFile file;
    file.Write(bytes);
    return RunReader([&] {
      DetectTokenFormat(MappedFile(file.path()));
      ReadFromDisk(file.path(), format);
    });
  }
  return RunReader(
      [&] { ReadAll(std::make_unique<TokenFile>(parse(InMemory("tokens", bytes)), 0)); });
}

// The file with the hashes that its content should have, where it has places for them: without, a
// changed byte would never get beyond the hash.
std::string WithHashes(std::string bytes) {
  HearthHeader header;
  if (bytes.size() < sizeof header) return bytes;
  std::memcpy(&header, bytes.data(), sizeof header);
  const uint64_t size = bytes.size();
  if (header.block_table_offset > size || header.block_table_offset < sizeof header ||
      header.block_bytes == 0) {
    return bytes;
  }
  const auto all = std::as_bytes(std::span(bytes));
  uint64_t at = header.block_table_offset;
  for (uint64_t begin = sizeof header; begin < header.block_table_offset && at + 8 <= size;
       begin += header.block_bytes, at += 8) {
    const uint64_t length = std::min(header.block_bytes, header.block_table_offset - begin);
    const uint64_t hash = Xxh3Hash64(all.subspan(begin, length));
    std::memcpy(bytes.data() + at, &hash, sizeof hash);
  }
  header.content_hash = HearthContentHash(header, all.subspan(header.block_table_offset));
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

template <typename T>
std::string Numbers(int64_t count, int64_t limit) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) Put(bytes, static_cast<T>(i * 7 % limit));
  return bytes;
}

// A header of 256 int32, the first as given.
std::string Int32Header(const std::vector<int32_t>& fields) {
  std::string bytes;
  for (int32_t field : fields) Put(bytes, field);
  bytes.resize(1024, '\0');
  return bytes;
}

}  // namespace

int FuzzHearth(const uint8_t* data, size_t size) {
  // As it is, a changed file is refused for its hash.
  if (IsInShare(AsText(data, size), 4))
    FuzzFormat(AsText(data, size), TokenFormat::kHearth, ParseHearth);
  const std::string fixed = WithHashes(std::string(AsText(data, size)));
  const std::vector<char> bytes(fixed.begin(), fixed.end());  // with nothing behind them
  return FuzzFormat({bytes.data(), bytes.size()}, TokenFormat::kHearth, ParseHearth);
}

std::vector<std::string> HearthSeeds() {
  std::vector<std::string> seeds;
  const FuzzFolder folder;
  for (int width : {2, 4}) {
    HearthWriter writer({.path = folder.Path("tokens"),
                         .bytes_per_token = width,
                         .vocab_size = 50,
                         .tokenizer_name = "byte",
                         .has_loss_mask = width == 4});
    for (int32_t i = 0; i < 40; ++i) {
      const int32_t token = i * 7 % 50;
      const uint8_t counts = i % 3 != 0;
      writer.Append({&token, 1}, width == 4 ? std::span(&counts, 1) : std::span<const uint8_t>());
      if (i % 11 == 5) writer.EndDocument();
    }
    writer.Finish();
    seeds.push_back(folder.Read("tokens"));
  }
  return seeds;
}

int FuzzLlmc(const uint8_t* data, size_t size) {
  return FuzzFormat(AsText(data, size), TokenFormat::kLlmc, ParseLlmc);
}

std::vector<std::string> LlmcSeeds() {
  return {Int32Header({20240520, 1, 30}) + Numbers<uint16_t>(30, 50),
          Int32Header({20240801, 7, 20}) + Numbers<uint32_t>(20, 50)};
}

int FuzzNanogpt(const uint8_t* data, size_t size) {
  return FuzzFormat(AsText(data, size), TokenFormat::kNanogpt, ParseNanogpt);
}

std::vector<std::string> NanogptSeeds() { return {Numbers<uint16_t>(40, 50), ""}; }

int FuzzLlmq(const uint8_t* data, size_t size) {
  return FuzzFormat(AsText(data, size), TokenFormat::kLlmq, ParseLlmq);
}

std::vector<std::string> LlmqSeeds() {
  std::vector<std::string> seeds;
  for (const std::vector<int32_t>& fields :
       {std::vector<int32_t>{2, 4, 20, 50, 1}, {2, 4, 20, 50, 0x2A2A2A2A}, {1, 4, 20}}) {
    std::vector<int32_t> header(2);
    std::memcpy(header.data(), "BIN.TOK\n", 8);
    header.insert(header.end(), fields.begin(), fields.end());
    seeds.push_back(Int32Header(header) + Numbers<int32_t>(20, 50));
    if (fields.back() == 1) seeds.back() += "\xAA\x55\x0F";
  }
  return seeds;
}

// The size of the index in four bytes, the index, the tokens.
int FuzzMegatron(const uint8_t* data, size_t size) {
  uint32_t index_size = 0;
  const std::string_view bytes = AsText(data, size);
  if (size >= sizeof index_size) std::memcpy(&index_size, data, sizeof index_size);
  const std::string_view rest = bytes.substr(std::min(size, sizeof index_size));
  index_size = static_cast<uint32_t>(std::min<size_t>(index_size, rest.size()));
  const std::string_view index = rest.substr(0, index_size), tokens = rest.substr(index_size);
  if (IsReadFromDisk(bytes)) {
    static const FuzzFolder folder;
    folder.Write("tokens.idx", index);
    folder.Write("tokens.bin", tokens);
    return RunReader([&] {
      DetectTokenFormat(MappedFile(folder.Path("tokens.bin")));
      ReadFromDisk(folder.Path("tokens"), TokenFormat::kMegatron);
    });
  }
  return RunReader([&] {
    ReadAll(std::make_unique<TokenFile>(
        ParseMegatron(InMemory("tokens.bin", tokens), InMemory("tokens.idx", index)), 0));
  });
}

std::vector<std::string> MegatronSeeds() {
  std::vector<std::string> seeds;
  for (const auto& [code, width] : {std::pair{8, 2}, {4, 4}, {5, 8}, {1, 1}}) {
    const std::vector<int32_t> lengths = {7, 0, 9, 4};
    std::string index("MMIDIDX\0\0", 9);
    Put(index, uint64_t{1});
    Put(index, static_cast<uint8_t>(code));
    Put(index, uint64_t{lengths.size()});
    Put(index, uint64_t{3});
    for (int32_t length : lengths) Put(index, length);
    for (int64_t i = 0, at = 0; i < std::ssize(lengths); ++i) {
      Put(index, at);
      at += lengths[static_cast<size_t>(i)] * width;
    }
    for (int64_t document : {0, 2, 4}) Put(index, document);
    if (code == 1) index += std::string(lengths.size(), '\0');
    std::string tokens;
    for (int i = 0; i < 20 * width; ++i) tokens += static_cast<char>(i % width == 0 ? i % 50 : 0);
    std::string bytes;
    Put(bytes, static_cast<uint32_t>(index.size()));
    seeds.push_back(bytes + index + tokens);
  }
  return seeds;
}

std::vector<std::string> TokenFileWords() {
  std::vector<std::string> words = {"BIN.TOK\n", "HEARTH\r\n", std::string("MMIDIDX\0\0", 9)};
  for (int32_t magic : {20240520, 20240801, 0x2A2A2A2A}) {
    Put(words.emplace_back(), magic);
  }
  return words;
}

}  // namespace hearth::test
