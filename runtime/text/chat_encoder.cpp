#include "runtime/text/chat_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kernels/core/error.h"

namespace hearth {

ChatEncoder::ChatEncoder(std::shared_ptr<const Tokenizer> tokenizer, ChatFormat format,
                         bool parse_special)
    : encoder_(std::move(tokenizer)),
      format_(format),
      options_{.parse_special = parse_special, .add_special = false} {
  // A chat of one message has every special token of its format.
  for (const ChatSegment& segment : RenderChat(format, {{ChatRole::kUser, ""}}, true)) {
    if (segment.is_special) SpecialId(segment.text);
  }
  end_of_turn_ = SpecialId(EndOfTurn(format));
}

int32_t ChatEncoder::SpecialId(std::string_view token) const {
  const std::optional<int32_t> id = encoder_.tokenizer().TokenId(token);
  if (id) return *id;
  throw ConfigError(fmt::format(
      "the chat format {} needs the token {}, which the tokenizer lacks; name the format that the "
      "model was trained on (--chat-format)",
      ChatFormatName(format_), token));
}

size_t ChatEncoder::UncountedTokens(std::string_view before, const std::vector<int32_t>& tokens) {
  const auto [found, is_new] = headers_.try_emplace(std::string(before));
  if (is_new) encoder_.Encode(before, options_, &found->second);
  const std::vector<int32_t>& header = found->second;
  return static_cast<size_t>(std::ranges::mismatch(header, tokens).in1 - header.begin());
}

void ChatEncoder::Encode(const Chat& chat, bool open_answer, EncodedChat* encoded) {
  encoded->tokens.clear();
  encoded->counts.clear();
  for (const ChatSegment& segment : RenderChat(format_, chat, open_answer)) {
    words_.clear();
    size_t uncounted = 0;
    const bool counts = segment.counts_from < segment.text.size();
    if (segment.is_special) {
      words_.push_back(SpecialId(segment.text));
    } else {
      encoder_.Encode(segment.text, options_, &words_);
      if (counts && segment.counts_from > 0) {
        uncounted =
            UncountedTokens(std::string_view(segment.text).substr(0, segment.counts_from), words_);
      }
    }
    if (!counts) uncounted = words_.size();
    encoded->tokens.insert(encoded->tokens.end(), words_.begin(), words_.end());
    encoded->counts.insert(encoded->counts.end(), uncounted, 0);
    encoded->counts.insert(encoded->counts.end(), words_.size() - uncounted, 1);
  }
}

}  // namespace hearth
