#include "tests/unit/text/small_tokenizer.h"

#include <fmt/format.h>

#include "runtime/text/utf8.h"

namespace hearth::test {

namespace {

// Written out a second time rather than taken from byte_alphabet.h.
std::string ByteVocabulary() {
  std::string json;
  int id = 0;
  const auto add = [&](char32_t character) {
    std::string text;
    AppendUtf8(character, &text);
    if (text == "\"" || text == "\\") text.insert(0, "\\");
    json += fmt::format("\"{}\":{},", text, id++);
  };
  for (char32_t c = '!'; c <= '~'; ++c) add(c);
  for (char32_t c = 0xa1; c <= 0xac; ++c) add(c);
  for (char32_t c = 0xae; c <= 0xff; ++c) add(c);
  for (char32_t c = 0x100; c < 0x100 + 68; ++c) add(c);
  return json;
}

}  // namespace

const char* const kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+)";
const char* const kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
const char* const kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

std::string SmallTokenizer::Json() const {
  return fmt::format(
      "{{\"added_tokens\":{},\n\"normalizer\":{},\n\"pre_tokenizer\":{},\n\"post_processor\":{},\n"
      "\"decoder\":{},\n\"model\":{{{},\n\"vocab\":{{{}\"ab\":256,\"abc\":257,\"Ġa\":258,\"zq\":259"
      "{}}},\n\"merges\":{}}}{}}}",
      added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model, ByteVocabulary(),
      more_vocab, merges, more);
}

std::shared_ptr<const Tokenizer> SmallTokenizer::Make() const {
  return Tokenizer::Parse(Json(), "tokenizer.json");
}

std::string SplitBy(const std::string& regex) {
  return fmt::format(
      R"({{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":"{}"}},)"
      R"("behavior":"Isolated","invert":false}},{{"type":"ByteLevel","add_prefix_space":false,)"
      R"("trim_offsets":true,"use_regex":false}}]}})",
      regex);
}

std::string AddedTokenJson(int id, const std::string& content, const AddedTokenFlags& flags) {
  return fmt::format(
      R"({{"id":{},"content":"{}","single_word":{},"lstrip":{},"rstrip":{},"normalized":{},"special":{}}})",
      id, content, flags.single_word, flags.lstrip, flags.rstrip, flags.normalized, flags.special);
}

}  // namespace hearth::test
