// Where the parts of a token file lie. Every format is a function from mapped bytes to this one
// description (token_formats.h), so that everything above reads all formats alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/hashing.h"
#include "runtime/data/mapped_file.h"

namespace hearth {

enum class TokenFormat { kAuto, kHearth, kLlmc, kNanogpt, kMegatron, kLlmq };

// "auto", "hearth", "llmc", "nanogpt", "megatron", "llmq".
std::string_view TokenFormatName(TokenFormat format);
// Throws ConfigError naming the choices.
TokenFormat ParseTokenFormat(std::string_view name);

enum class TokenStorage { kUint8, kUint16, kInt16, kInt32, kUint32, kInt64 };

constexpr int64_t BytesPerToken(TokenStorage storage) {
  switch (storage) {
    case TokenStorage::kUint8:
      return 1;
    case TokenStorage::kUint16:
    case TokenStorage::kInt16:
      return 2;
    case TokenStorage::kInt32:
    case TokenStorage::kUint32:
      return 4;
    case TokenStorage::kInt64:
      return 8;
  }
  return 0;
}

// XXH3-64 of each `block_bytes` of [begin, end) of the file, the last block being shorter.
struct BlockHashes {
  int64_t block_bytes = 0;  // 0: the format has none
  int64_t begin = 0;
  int64_t end = 0;
  std::span<const std::byte> table;  // [ceil((end - begin) / block_bytes)] little-endian uint64
};

struct TokenLayout {
  TokenFormat format = TokenFormat::kAuto;
  std::shared_ptr<const MappedFile> file;   // holds the tokens; shared by the views below
  std::shared_ptr<const MappedFile> index;  // Megatron's .idx, else null
  TokenStorage storage = TokenStorage::kUint16;
  std::span<const std::byte> tokens;  // [token_count] of `storage`, aligned or not
  int64_t token_count = 0;
  int64_t vocab_size = 0;  // 0: the format does not say
  std::string tokenizer_name;
  Hash128 tokenizer_hash;
  int64_t sample_tokens = 0;  // the sequence_len that samples were packed for; 0: not known, or any
  // Token indices at which documents begin, rising, the first 0; empty: the file is one document.
  // Either owned, or little-endian int64 in the mapping that have not been checked yet.
  std::vector<int64_t> owned_document_starts;
  std::span<const std::byte> mapped_document_starts;
  // One bit a token, lowest bit first: 1 where the token counts as a target. Empty: all count.
  std::span<const std::byte> loss_mask;
  BlockHashes block_hashes;
  Hash128 content_hash;  // of a .hearth, as stored and checked against header and block table
};

}  // namespace hearth
