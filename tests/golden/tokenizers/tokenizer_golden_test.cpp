// Every tokenizer.json below the folder of goldens against what the `tokenizers` library made of
// the strings in cases.bin beside it (make_tokenizer_goldens.py), which is a row of
//   uint8 flags (1: parse_special, 2: add_special, 4: decoded text follows), uint32 bytes,
//   uint32 tokens, the bytes, uint16 each token; with flag 4: uint32 bytes, the decoded text.
// Without flag 4 the tokens decode to the string, with U+FFFD for what is no UTF-8.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace hearth {
namespace {

std::filesystem::path GoldenFolder() {
  const char* folder = std::getenv("HEARTH_TOKENIZER_GOLDENS");
  if (folder != nullptr) return folder;
  return std::filesystem::path(HEARTH_SOURCE_DIR) / "tests/golden/tokenizers";
}

template <typename T>
T ReadNumber(std::istream& in) {
  T value = 0;
  in.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

std::string ReadBytes(std::istream& in, size_t count) {
  std::string bytes(count, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(count));
  return bytes;
}

struct Case {
  EncodeOptions options;
  std::string text;
  std::vector<int32_t> tokens;
  std::string decoded;
};

bool ReadCase(std::istream& in, Case* next) {
  const auto flags = ReadNumber<uint8_t>(in);
  if (in.eof()) return false;
  const auto text_bytes = ReadNumber<uint32_t>(in);
  const auto token_count = ReadNumber<uint32_t>(in);
  next->options = {.parse_special = (flags & 1) != 0, .add_special = (flags & 2) != 0};
  next->text = ReadBytes(in, text_bytes);
  next->tokens.clear();
  for (uint32_t i = 0; i < token_count; ++i) next->tokens.push_back(ReadNumber<uint16_t>(in));
  next->decoded.clear();
  if ((flags & 4) != 0) {
    next->decoded = ReadBytes(in, ReadNumber<uint32_t>(in));
  } else {
    // What add_special puts in front is part of the decoded text, so that such a case has flag 4.
    AppendWithReplacement(next->text, &next->decoded);
  }
  EXPECT_TRUE(in.good());
  return in.good();
}

std::string Streamed(const std::shared_ptr<const Tokenizer>& tokenizer,
                     const std::vector<int32_t>& tokens) {
  StreamingDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t token : tokens) text += decoder.Add(token);
  return text + decoder.Finish();
}

// The number of strings compared.
int64_t Compare(const std::filesystem::path& folder) {
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(folder);
  TokenEncoder encoder(tokenizer);
  std::ifstream in(folder / "cases.bin", std::ios::binary);
  EXPECT_TRUE(in.good());
  int64_t compared = 0;
  int64_t different = 0;
  std::vector<int32_t> tokens;
  for (Case next; ReadCase(in, &next); ++compared) {
    tokens.clear();
    encoder.Encode(next.text, next.options, &tokens);
    const bool same = tokens == next.tokens && tokenizer->Decode(next.tokens) == next.decoded &&
                      Streamed(tokenizer, next.tokens) == next.decoded &&
                      (compared % 16 != 0 || tokenizer->Encode(next.text, next.options) == tokens);
    if (same || ++different > 5) continue;
    ADD_FAILURE() << folder << " case " << compared << " parse " << next.options.parse_special
                  << "\ntext: " << testing::PrintToString(next.text)
                  << "\n  tokens: " << testing::PrintToString(tokens)
                  << "\nexpected: " << testing::PrintToString(next.tokens)
                  << "\n decoded: " << testing::PrintToString(tokenizer->Decode(next.tokens))
                  << "\nexpected: " << testing::PrintToString(next.decoded);
  }
  EXPECT_EQ(different, 0) << folder << ": of " << compared << " strings";
  return compared;
}

TEST(TokenizerGoldens, EqualTheTokenizersLibrary) {
  std::set<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder())) {
    if (entry.is_directory()) folders.insert(entry.path());
  }
  ASSERT_FALSE(folders.empty());
  for (const std::filesystem::path& folder : folders) {
    const int64_t compared = Compare(folder);
    EXPECT_GE(compared, 500) << folder;
    RecordProperty(folder.filename().string(), std::to_string(compared));
  }
}

}  // namespace
}  // namespace hearth
