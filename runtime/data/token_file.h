// One token file of any format, read as int32 ids.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/hashing.h"
#include "runtime/data/token_layout.h"

namespace hearth {

// What a checkpoint remembers of a shard, so that changed data is an error and not a surprise.
struct ShardHash {
  std::string file;  // as opened
  int64_t bytes = 0;
  Hash128 hash;

  bool operator==(const ShardHash&) const = default;
};

// Immutable; every member may be called from several threads at once. Throws IoError for damaged
// content, naming the file: a block whose hash differs, an id outside the vocabulary, document
// starts out of order.
class TokenFile {
 public:
  // ids must be below `vocab_limit` and below the file's own vocabulary; 0: only the latter. A file
  // whose vocabulary is larger than `vocab_limit` is refused with ConfigError.
  static std::unique_ptr<TokenFile> Open(const std::string& path,
                                         TokenFormat format = TokenFormat::kAuto,
                                         int64_t vocab_limit = 0);
  TokenFile(TokenLayout layout, int64_t vocab_limit);

  const std::string& path() const { return layout_.file->path(); }
  TokenFormat format() const { return layout_.format; }
  TokenStorage storage() const { return layout_.storage; }
  int64_t token_count() const { return layout_.token_count; }
  int64_t vocab_size() const { return layout_.vocab_size; }  // 0: the format does not say
  const std::string& tokenizer_name() const { return layout_.tokenizer_name; }
  const Hash128& tokenizer_hash() const { return layout_.tokenizer_hash; }
  // See TokenLayout.
  int64_t sample_tokens() const { return layout_.sample_tokens; }
  bool has_documents() const {
    return !layout_.owned_document_starts.empty() || !layout_.mapped_document_starts.empty();
  }
  bool has_loss_mask() const { return !layout_.loss_mask.empty(); }

  // Tokens [begin, begin + out.size()), which must lie in the file.
  void ReadTokens(int64_t begin, std::span<int32_t> out) const;
  // 1 for each of these tokens that counts as a target, else 0; all 1 without a mask.
  void ReadLossMask(int64_t begin, std::span<uint8_t> out) const;
  // Token indices at which documents begin, rising, the first 0; empty: one document. The first
  // call checks the whole list.
  std::span<const int64_t> DocumentStarts() const;

  // Checks every byte, id and document start.
  void Verify() const;
  // One entry for each file behind this one. Reads the whole content of a foreign format on the
  // first call; a .hearth stores its hash.
  const std::vector<ShardHash>& ShardHashes() const;

 private:
  void VerifyBlocks(std::span<const std::byte> range) const;

  TokenLayout layout_;
  int64_t vocab_limit_ = 0;  // 0: none
  mutable std::unique_ptr<std::atomic<bool>[]> verified_blocks_;
  mutable std::mutex lazy_mutex_;
  mutable bool documents_checked_ = false;
  mutable std::vector<ShardHash> shard_hashes_;  // empty: not computed yet
};

}  // namespace hearth
