// The smaller parts of tokenizer.json, each a small object with a "type". All refuse with
// ConfigError what is not built, by name and place.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "runtime/model/json_reader.h"
#include "runtime/text/tokenizer_tables.h"
#include "runtime/text/word_splitter.h"

namespace hearth {

// There, and not null.
bool HasValue(const JsonNode& node, std::string_view key);
bool OptionalBool(const JsonNode& node, std::string_view key, bool if_absent);
// Refuses members other than these.
void RequireKeys(const JsonNode& node, std::initializer_list<std::string_view> known);

enum class TypeKey : uint8_t { kRequired, kOptional };
// The object's "type", which must be one of these; the first where it is optional and absent.
std::string_view RequireType(const JsonNode& node, std::initializer_list<std::string_view> built,
                             TypeKey type_key = TypeKey::kRequired);

// Whether the normaliser is NFC; false: it does nothing.
bool ReadsAsNfc(const JsonNode& normalizer);

struct SplitterSettings {
  SplitPattern pattern = SplitPattern::kGpt2;
  bool add_prefix_space = false;
};
SplitterSettings ReadPreTokenizer(const JsonNode& pre_tokenizer);

void CheckDecoder(const JsonNode& decoder);

// What a post-processor puts around one text.
struct SurroundingTokens {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};
SurroundingTokens ReadPostProcessor(const JsonNode& post_processor, const TokenizerTables& tables);

}  // namespace hearth
