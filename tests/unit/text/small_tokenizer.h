// A tokenizer.json whose parts a test replaces: the 256 bytes in the order of their characters,
// then "ab" (256), "abc" (257), "Ġa" (258), "zq" (259, which no merge makes).
#pragma once

#include <memory>
#include <string>

#include "runtime/text/tokenizer.h"

namespace hearth::test {

inline constexpr char kByteLevel[] =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";

// The GPT-2, Llama 3 and Qwen2 expressions as JSON strings without the quotes.
extern const char* const kGpt2Regex;
extern const char* const kLlama3Regex;
extern const char* const kQwen2Regex;

struct SmallTokenizer {
  std::string added_tokens = "[]";
  std::string normalizer = "null";
  std::string pre_tokenizer = kByteLevel;
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string model = R"("type":"BPE")";  // members of the model but vocab and merges
  std::string more_vocab;                 // further members, each with a comma before it
  std::string merges = R"(["a b","ab c","Ġ a"])";
  std::string more;  // further members of the file, each with a comma before it

  // One line a part; the vocabulary is on line 7.
  std::string Json() const;
  std::shared_ptr<const Tokenizer> Make() const;
};

// Splits by `regex`, as Llama 3 and Qwen2 do.
std::string SplitBy(const std::string& regex);

struct AddedTokenFlags {
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = true;
};
std::string AddedTokenJson(int id, const std::string& content, const AddedTokenFlags& flags = {});

}  // namespace hearth::test
