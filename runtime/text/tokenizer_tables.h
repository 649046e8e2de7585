// What a Tokenizer is made of; read from a file by ReadTokenizerFile (tokenizer_file.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe_model.h"
#include "runtime/text/character_classes.h"
#include "runtime/text/nfc.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/word_splitter.h"

namespace hearth {

// How text becomes tokens where a token is more than a byte. The steps of an encoding, in order:
// `as_written` tokens are cut out, the rest is normalised, `normalized` tokens are cut out, and
// what is left is split into words, each of which BPE encodes.
struct BpePipeline {
  CharacterClasses classes;
  AddedTokenMatcher as_written;
  std::unique_ptr<const NfcNormalizer> nfc;  // null: no normaliser
  AddedTokenMatcher normalized;
  bool add_prefix_space = false;  // before each stretch between tokens that does not begin with one
  std::unique_ptr<const WordSplitter> splitter;
  std::unique_ptr<const BpeModel> model;
};

struct TokenizerTables {
  std::unique_ptr<const BpePipeline> bpe;  // null: every byte is a token
  StringIds ids;                           // by the text in the file
  std::unordered_map<int32_t, std::string> bytes;
  std::unordered_set<int32_t> special;
  int64_t vocab_size = 0;
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  TokenizerHash hash;
};

}  // namespace hearth
