#include "tests/unit/data/data_test_support.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>

namespace hearth::test {

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> next = 0;
  path_ = std::filesystem::temp_directory_path() /
          ("hearth-data-test-" + std::to_string(getpid()) + "-" + std::to_string(next++));
  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::Write(std::string_view name, std::string_view content) const {
  const std::string path = Path(name);
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  // A new file each time: truncating an old one makes ext4 write it out at once.
  std::filesystem::remove(path);
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  EXPECT_TRUE(out.good()) << path;
  return path;
}

std::vector<std::string> TemporaryFolder::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string PackedBits(const std::vector<int>& bits) {
  std::string bytes((bits.size() + 7) / 8, '\0');
  for (size_t i = 0; i < bits.size(); ++i) {
    if (bits[i] != 0) bytes[i / 8] = static_cast<char>(bytes[i / 8] | 1 << (i % 8));
  }
  return bytes;
}

std::string LlmcFile(int32_t magic, int32_t version, int32_t count, const std::string& tokens) {
  std::string bytes;
  for (int32_t field : {magic, version, count}) Put(bytes, field);
  bytes.resize(1024, '\0');
  return bytes + tokens;
}

std::string LlmqFile(int32_t version, int32_t count, int32_t vocab, int32_t mask_flag,
                     const std::string& tokens, const std::string& mask_bits) {
  std::string bytes = "BIN.TOK\n";
  for (int32_t field : {version, int32_t{4}, count, vocab, mask_flag}) Put(bytes, field);
  bytes.resize(1024, '*');
  return bytes + tokens + mask_bits;
}

std::string MegatronIndex(const MegatronIndexFields& fields) {
  std::string bytes("MMIDIDX\0\0", 9);
  Put(bytes, fields.version);
  Put(bytes, fields.code);
  Put(bytes, static_cast<uint64_t>(fields.lengths.size()));
  Put(bytes, static_cast<uint64_t>(fields.documents.size()));
  return bytes + Packed<int32_t>(fields.lengths) + Packed<int64_t>(fields.pointers) +
         Packed<int64_t>(fields.documents);
}

std::vector<int32_t> SomeTokens(int64_t count, int32_t vocab, uint32_t salt) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  uint32_t state = 12345u + salt * 7919u;
  for (int32_t& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(vocab));
  }
  return tokens;
}

}  // namespace hearth::test
