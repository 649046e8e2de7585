// Folders, files and foreign formats for the tests of runtime/data, written with no code under
// test.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace hearth::test {

// An empty folder of this test, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string Path(std::string_view name) const { return (path_ / name).string(); }
  std::string Write(std::string_view name, std::string_view content) const;
  std::vector<std::string> Names() const;  // sorted

 private:
  std::filesystem::path path_;
};

std::string ReadFile(const std::string& path);

template <typename T>
void Put(std::string& bytes, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
std::string Packed(const std::vector<int64_t>& values) {
  std::string bytes;
  for (int64_t value : values) Put(bytes, static_cast<T>(value));
  return bytes;
}

// One bit a token, lowest first.
std::string PackedBits(const std::vector<int>& bits);

// Token files in their published layouts.
std::string LlmcFile(int32_t magic, int32_t version, int32_t count, const std::string& tokens);
std::string LlmqFile(int32_t version, int32_t count, int32_t vocab, int32_t mask_flag,
                     const std::string& tokens, const std::string& mask_bits);
struct MegatronIndexFields {
  uint64_t version = 1;
  uint8_t code = 8;  // uint16
  std::vector<int64_t> lengths;
  std::vector<int64_t> pointers;
  std::vector<int64_t> documents;
};
std::string MegatronIndex(const MegatronIndexFields& fields);

// values[i] = some fixed id below vocab, not periodic in any sequence length a test uses.
std::vector<int32_t> SomeTokens(int64_t count, int32_t vocab, uint32_t salt = 0);

// The message of the Exception that `action` throws; "" when it throws none.
template <typename Exception, typename Action>
std::string MessageOf(const Action& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace hearth::test
