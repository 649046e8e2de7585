// What a model's folder says about text, beside its tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "runtime/text/chat_format.h"
#include "runtime/text/tokenizer.h"

namespace hearth {

// The format of the folder's chat template (chat_template.jinja, else chat_template in
// tokenizer_config.json or chat_template.json). `folder` may also be the path of a file in it.
// ConfigError when there is no template, or one that is not known; the remedy is --chat-format.
ChatFormat FindChatFormat(const std::filesystem::path& folder);

// The token between documents: what the tokenizer itself puts behind a text, else
// <|endoftext|>, <|end_of_text|>, </s> or <eos>, whichever it has. Never the end of a chat's turn.
std::optional<int32_t> FindEndOfText(const Tokenizer& tokenizer);

}  // namespace hearth
