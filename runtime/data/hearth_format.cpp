#include "runtime/data/hearth_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/little_endian.h"
#include "runtime/data/token_formats.h"

namespace hearth {

namespace {

constexpr uint64_t kMaxBlockBytes = uint64_t{64} << 20;
constexpr uint64_t kMinBlockBytes = 4096;

[[noreturn]] void Refuse(const MappedFile& file, const std::string& what) {
  throw IoError(fmt::format("{}: error: {}", file.path(), what));
}

template <size_t N>
bool AllZero(const std::array<char, N>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

// Everything that must hold before a count may enter arithmetic.
void CheckFields(const MappedFile& file, const HearthHeader& header) {
  if (header.version != kHearthVersion) {
    Refuse(file, fmt::format("version {} of the .hearth format; this Hearth reads version {}",
                             header.version, kHearthVersion));
  }
  const uint64_t size = static_cast<uint64_t>(file.size());
  const bool sound =
      header.header_bytes == sizeof(HearthHeader) &&
      (header.bytes_per_token == 2 || header.bytes_per_token == 4) &&
      (header.flags & ~kHearthFlagLossMask) == 0 && header.vocab_size >= 1 &&
      header.vocab_size <= uint64_t{1} << 31 && std::has_single_bit(header.block_bytes) &&
      header.block_bytes >= kMinBlockBytes && header.block_bytes <= kMaxBlockBytes &&
      header.sample_tokens <= uint64_t{1} << 40 && header.tokenizer_name.back() == 0 &&
      AllZero(header.reserved) && AllZero(header.trailer);
  if (!sound) Refuse(file, "the header is damaged");
  if (header.file_bytes != size || header.token_count > size / header.bytes_per_token ||
      header.document_count > size / 8 || header.document_count > header.token_count) {
    Refuse(file, fmt::format("the header promises {} tokens in {} documents and {} bytes, but the "
                             "file has {}; it is truncated or damaged",
                             header.token_count, header.document_count, header.file_bytes, size));
  }
}

}  // namespace

HearthExtents ComputeHearthExtents(const HearthHeader& header) {
  const int64_t tokens = static_cast<int64_t>(header.token_count);
  const int64_t tokens_end =
      int64_t{sizeof(HearthHeader)} + tokens * static_cast<int64_t>(header.bytes_per_token);
  HearthExtents extents;
  extents.documents_offset = RoundUp(tokens_end, 8);
  extents.mask_offset = extents.documents_offset + 8 * static_cast<int64_t>(header.document_count);
  const bool has_mask = (header.flags & kHearthFlagLossMask) != 0;
  extents.block_table_offset = extents.mask_offset + (has_mask ? RoundUp(DivUp(tokens, 8), 8) : 0);
  extents.blocks = DivUp(extents.block_table_offset - int64_t{sizeof(HearthHeader)},
                         static_cast<int64_t>(header.block_bytes));
  extents.file_bytes = extents.block_table_offset + 8 * extents.blocks;
  return extents;
}

Hash128 HearthContentHash(const HearthHeader& header, std::span<const std::byte> block_table) {
  StreamingHash128 hash;
  hash.Update(std::as_bytes(std::span(&header, 1)).first(kHashedHeaderBytes));
  hash.Update(block_table);
  return hash.Digest();
}

TokenLayout ParseHearth(std::shared_ptr<const MappedFile> file) {
  if (file->size() < int64_t{sizeof(HearthHeader)}) {
    Refuse(*file, "shorter than the header of a .hearth file");
  }
  const auto header = LoadLittleEndian<HearthHeader>(file->bytes(), 0);
  if (header.magic != kHearthMagic) Refuse(*file, "not a .hearth file");
  CheckFields(*file, header);
  const HearthExtents extents = ComputeHearthExtents(header);
  if (header.documents_offset != static_cast<uint64_t>(extents.documents_offset) ||
      header.mask_offset != static_cast<uint64_t>(extents.mask_offset) ||
      header.block_table_offset != static_cast<uint64_t>(extents.block_table_offset) ||
      file->size() != extents.file_bytes) {
    Refuse(*file, "the header's offsets do not fit its counts; the file is damaged");
  }
  const auto part = [&](int64_t begin, int64_t end) {
    return file->bytes().subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  };
  TokenLayout layout;
  layout.format = TokenFormat::kHearth;
  layout.storage = header.bytes_per_token == 2 ? TokenStorage::kUint16 : TokenStorage::kUint32;
  layout.token_count = static_cast<int64_t>(header.token_count);
  layout.vocab_size = static_cast<int64_t>(header.vocab_size);
  layout.tokenizer_name = header.tokenizer_name.data();
  layout.tokenizer_hash = header.tokenizer_hash;
  layout.sample_tokens = static_cast<int64_t>(header.sample_tokens);
  layout.tokens =
      part(int64_t{sizeof(HearthHeader)},
           int64_t{sizeof(HearthHeader)} + layout.token_count * BytesPerToken(layout.storage));
  layout.mapped_document_starts = part(extents.documents_offset, extents.mask_offset);
  layout.loss_mask = part(extents.mask_offset, extents.block_table_offset);
  layout.block_hashes = {.block_bytes = static_cast<int64_t>(header.block_bytes),
                         .begin = int64_t{sizeof(HearthHeader)},
                         .end = extents.block_table_offset,
                         .table = part(extents.block_table_offset, extents.file_bytes)};
  layout.content_hash = HearthContentHash(header, layout.block_hashes.table);
  if (layout.content_hash != header.content_hash) {
    Refuse(*file, "the content hash does not match header and block table; the file is damaged");
  }
  layout.file = std::move(file);
  return layout;
}

}  // namespace hearth
