// Chats as token ids, with a mark on what the assistant says.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/chat_format.h"
#include "runtime/text/tokenizer.h"

namespace hearth {

struct EncodedChat {
  std::vector<int32_t> tokens;
  // [tokens] 1 for the assistant's words and the token that ends its turn, else 0. A token that
  // joins the end of a role's line with the beginning of the assistant's words counts.
  std::vector<uint8_t> counts;
};

// For one thread.
class ChatEncoder {
 public:
  // ConfigError when the tokenizer lacks a special token of the format. With `parse_special` the
  // names of special tokens inside somebody's words become those tokens, as transformers does it;
  // without, they stay words, so that nobody's words can end a turn.
  ChatEncoder(std::shared_ptr<const Tokenizer> tokenizer, ChatFormat format,
              bool parse_special = false);

  // Replaces `encoded`. The chat must be one that the format can hold (WhyNotRendered). With
  // `open_answer` the beginning of an assistant's turn follows.
  void Encode(const Chat& chat, bool open_answer, EncodedChat* encoded);

  ChatFormat format() const { return format_; }
  int32_t end_of_turn() const { return end_of_turn_; }

 private:
  int32_t SpecialId(std::string_view token) const;
  // Tokens at the front of `tokens` that belong to the text before the assistant's words.
  size_t UncountedTokens(std::string_view before, const std::vector<int32_t>& tokens);

  TokenEncoder encoder_;
  ChatFormat format_;
  EncodeOptions options_;
  int32_t end_of_turn_ = 0;
  std::vector<int32_t> words_;
  // The tokens of texts that precede an assistant's words; a handful per format.
  std::unordered_map<std::string, std::vector<int32_t>> headers_;
};

}  // namespace hearth
