// Reads tokenizer.json of the Hugging Face `tokenizers` library.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "runtime/model/json_reader.h"
#include "runtime/text/tokenizer_tables.h"

namespace hearth {

inline constexpr int64_t kMaxTokenizerFileBytes = int64_t{256} << 20;

// ConfigError naming the place for anything but: byte-level BPE with every byte in its vocabulary;
// no normaliser or NFC; one of the patterns of word_splitter.h, in Split or ByteLevel; a
// post-processor that puts fixed tokens around. What the library would ignore or lose silently is
// refused too.
std::unique_ptr<TokenizerTables> ReadTokenizerFile(std::string_view json, const std::string& file);
std::unique_ptr<TokenizerTables> ReadTokenizerFile(const JsonDocument& document);

}  // namespace hearth
