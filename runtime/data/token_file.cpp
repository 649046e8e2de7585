#include "runtime/data/token_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/little_endian.h"
#include "runtime/data/token_formats.h"

namespace hearth {

namespace {

constexpr int64_t kVerifyChunk = 1 << 16;

// Converts and returns whether every id is in [0, limit).
template <typename Stored>
bool ConvertTokens(std::span<const std::byte> bytes, int64_t limit, std::span<int32_t> out) {
  bool valid = true;
  for (size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    // A negative id becomes a huge one.
    valid &= static_cast<uint64_t>(static_cast<int64_t>(value)) < static_cast<uint64_t>(limit);
    out[i] = static_cast<int32_t>(value);
  }
  return valid;
}

bool ConvertTokens(TokenStorage storage, std::span<const std::byte> bytes, int64_t limit,
                   std::span<int32_t> out) {
  switch (storage) {
    case TokenStorage::kUint8:
      return ConvertTokens<uint8_t>(bytes, limit, out);
    case TokenStorage::kUint16:
      return ConvertTokens<uint16_t>(bytes, limit, out);
    case TokenStorage::kInt16:
      return ConvertTokens<int16_t>(bytes, limit, out);
    case TokenStorage::kInt32:
      return ConvertTokens<int32_t>(bytes, limit, out);
    case TokenStorage::kUint32:
      return ConvertTokens<uint32_t>(bytes, limit, out);
    case TokenStorage::kInt64:
      return ConvertTokens<int64_t>(bytes, limit, out);
  }
  throw CheckError("a token storage without a reader");
}

}  // namespace

std::unique_ptr<TokenFile> TokenFile::Open(const std::string& path, TokenFormat format,
                                           int64_t vocab_limit) {
  return std::make_unique<TokenFile>(OpenTokenLayout(path, format), vocab_limit);
}

TokenFile::TokenFile(TokenLayout layout, int64_t vocab_limit)
    : layout_(std::move(layout)), vocab_limit_(vocab_limit) {
  CHECK(vocab_limit_ >= 0, "a vocabulary of {}", vocab_limit_);
  if (vocab_limit_ > 0 && layout_.vocab_size > vocab_limit_) {
    throw ConfigError(fmt::format(
        "{}: error: tokens of a vocabulary of {} for a model with {}; use the model's tokenizer",
        path(), layout_.vocab_size, vocab_limit_));
  }
  const BlockHashes& blocks = layout_.block_hashes;
  if (blocks.block_bytes > 0) {
    const int64_t count = DivUp(blocks.end - blocks.begin, blocks.block_bytes);
    verified_blocks_ = std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(count));
  }
}

void TokenFile::VerifyBlocks(std::span<const std::byte> range) const {
  const BlockHashes& blocks = layout_.block_hashes;
  if (blocks.block_bytes == 0 || range.empty()) return;
  const std::span<const std::byte> bytes = layout_.file->bytes();
  const int64_t begin = range.data() - bytes.data() - blocks.begin;
  const int64_t last = begin + static_cast<int64_t>(range.size()) - 1;
  for (int64_t block = begin / blocks.block_bytes; block <= last / blocks.block_bytes; ++block) {
    std::atomic<bool>& verified = verified_blocks_[static_cast<size_t>(block)];
    if (verified.load(std::memory_order_relaxed)) continue;
    const int64_t start = blocks.begin + block * blocks.block_bytes;
    const int64_t length = std::min(blocks.block_bytes, blocks.end - start);
    const uint64_t actual =
        Xxh3Hash64(bytes.subspan(static_cast<size_t>(start), static_cast<size_t>(length)));
    if (actual != LoadLittleEndian<uint64_t>(blocks.table, 8 * block)) {
      throw IoError(fmt::format(
          "{}: error: bytes {} to {} do not match their hash; the file is damaged, write it again",
          path(), start, start + length - 1));
    }
    verified.store(true, std::memory_order_relaxed);
  }
}

void TokenFile::ReadTokens(int64_t begin, std::span<int32_t> out) const {
  const int64_t count = static_cast<int64_t>(out.size());
  CHECK(begin >= 0 && begin <= token_count() && count <= token_count() - begin,
        "tokens {} + {} of {}", begin, count, token_count());
  const int64_t width = BytesPerToken(layout_.storage);
  const auto bytes = layout_.tokens.subspan(static_cast<size_t>(begin * width),
                                            static_cast<size_t>(count * width));
  VerifyBlocks(bytes);
  int64_t limit = std::numeric_limits<int32_t>::max();
  if (layout_.vocab_size > 0) limit = std::min(limit, layout_.vocab_size);
  if (vocab_limit_ > 0) limit = std::min(limit, vocab_limit_);
  if (ConvertTokens(layout_.storage, bytes, limit, out)) return;
  throw IoError(fmt::format(
      "{}: error: among tokens {} to {} is an id outside the vocabulary of {}; the file is damaged "
      "or belongs to another tokenizer",
      path(), begin, begin + count - 1, limit));
}

void TokenFile::ReadLossMask(int64_t begin, std::span<uint8_t> out) const {
  const int64_t count = static_cast<int64_t>(out.size());
  CHECK(begin >= 0 && begin <= token_count() && count <= token_count() - begin,
        "tokens {} + {} of {}", begin, count, token_count());
  if (!has_loss_mask()) {
    std::fill(out.begin(), out.end(), uint8_t{1});
    return;
  }
  if (count == 0) return;
  const int64_t first_byte = begin / 8;
  const int64_t last_byte = (begin + count - 1) / 8;
  VerifyBlocks(layout_.loss_mask.subspan(static_cast<size_t>(first_byte),
                                         static_cast<size_t>(last_byte - first_byte + 1)));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = begin + i;
    const auto byte = std::to_integer<uint8_t>(layout_.loss_mask[static_cast<size_t>(bit / 8)]);
    out[static_cast<size_t>(i)] = static_cast<uint8_t>(byte >> (bit % 8) & 1);
  }
}

std::span<const int64_t> TokenFile::DocumentStarts() const {
  if (!layout_.owned_document_starts.empty()) return layout_.owned_document_starts;
  const std::span<const std::byte> mapped = layout_.mapped_document_starts;
  // Aligned: the format puts the list at a multiple of 8 of the mapping.
  const std::span<const int64_t> starts(reinterpret_cast<const int64_t*>(mapped.data()),
                                        mapped.size() / 8);
  const std::lock_guard lock(lazy_mutex_);
  if (documents_checked_ || starts.empty()) return starts;
  VerifyBlocks(mapped);
  int64_t previous = -1;
  for (int64_t start : starts) {
    if (start <= previous || start >= token_count() || (previous == -1 && start != 0)) {
      throw IoError(fmt::format("{}: error: a document begins at token {} after {}, of {}", path(),
                                start, previous, token_count()));
    }
    previous = start;
  }
  documents_checked_ = true;
  return starts;
}

void TokenFile::Verify() const {
  const BlockHashes& blocks = layout_.block_hashes;
  if (blocks.block_bytes > 0) {
    VerifyBlocks(layout_.file->bytes().subspan(static_cast<size_t>(blocks.begin),
                                               static_cast<size_t>(blocks.end - blocks.begin)));
  }
  DocumentStarts();
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(kVerifyChunk, token_count())));
  for (int64_t begin = 0; begin < token_count(); begin += kVerifyChunk) {
    const int64_t count = std::min(kVerifyChunk, token_count() - begin);
    ReadTokens(begin, std::span(tokens).first(static_cast<size_t>(count)));
  }
}

const std::vector<ShardHash>& TokenFile::ShardHashes() const {
  const std::lock_guard lock(lazy_mutex_);
  if (!shard_hashes_.empty()) return shard_hashes_;
  if (layout_.format == TokenFormat::kHearth) {
    shard_hashes_.push_back({path(), layout_.file->size(), layout_.content_hash});
    return shard_hashes_;
  }
  std::vector<ShardHash> hashes;
  for (const MappedFile* file : {layout_.file.get(), layout_.index.get()}) {
    if (file == nullptr) continue;
    hashes.push_back({file->path(), file->size(), Xxh3Hash128(file->bytes())});
  }
  shard_hashes_ = std::move(hashes);
  return shard_hashes_;
}

}  // namespace hearth
