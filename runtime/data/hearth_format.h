// The .hearth token shard, version 1. Little endian, immutable, 64-bit counts.
//
//   byte 0     header, 256 bytes (struct HearthHeader)
//   256        tokens, uint16 or uint32                                 } the payload, hashed in
//   aligned 8  document starts, int64, rising, the first 0 (optional)   } blocks of block_bytes
//   aligned 8  loss mask, one bit a token, lowest bit first (optional)  }
//   aligned 8  block table: XXH3-64 of each payload block
//
// content_hash is the XXH3-128 of the header's first kHashedHeaderBytes followed by the block
// table: it covers every byte of the file, yet opening a shard reads no token. Blocks are checked
// when they are first touched.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/data/hashing.h"

namespace hearth {

inline constexpr std::array<char, 8> kHearthMagic = {'H', 'E', 'A', 'R', 'T', 'H', '\r', '\n'};
inline constexpr uint32_t kHearthVersion = 1;
inline constexpr uint32_t kHearthFlagLossMask = 1;
// Small enough that a shuffled read does not drag in much more than it needs; 0.003 % of table.
inline constexpr int64_t kHearthBlockBytes = 256 * 1024;
inline constexpr int64_t kMaxTokenizerName = 63;

struct HearthHeader {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t header_bytes;     // sizeof(HearthHeader)
  uint32_t bytes_per_token;  // 2 or 4
  uint32_t flags;
  uint64_t token_count;
  uint64_t vocab_size;      // every token is below it; at least 1
  uint64_t document_count;  // 0: one document without a list
  uint64_t documents_offset;
  uint64_t mask_offset;
  uint64_t block_bytes;  // a power of two
  uint64_t block_table_offset;
  uint64_t file_bytes;
  Hash128 tokenizer_hash;                                  // 0: the tokenizer is not known
  std::array<char, kMaxTokenizerName + 1> tokenizer_name;  // zero-padded
  // The sequence_len that samples were packed for (ShardBuilder); 0: documents lie one behind the
  // other, or the file is older than this field.
  uint64_t sample_tokens;
  std::array<char, 48> reserved;  // zero
  Hash128 content_hash;
  std::array<char, 16> trailer;  // zero
};
static_assert(sizeof(HearthHeader) == 256 && offsetof(HearthHeader, content_hash) == 224);

inline constexpr int64_t kHashedHeaderBytes = 224;  // all that precedes content_hash

// Where each part lies, from the counts alone; a file whose offsets differ is refused. The counts
// must be small enough for the sums to fit int64 (a reader bounds them by the file size first).
struct HearthExtents {
  int64_t documents_offset = 0;  // = the end of the tokens, aligned
  int64_t mask_offset = 0;
  int64_t block_table_offset = 0;  // = the end of the payload
  int64_t blocks = 0;
  int64_t file_bytes = 0;
};
HearthExtents ComputeHearthExtents(const HearthHeader& header);

Hash128 HearthContentHash(const HearthHeader& header, std::span<const std::byte> block_table);

}  // namespace hearth
