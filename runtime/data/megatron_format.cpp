// Megatron's indexed dataset: PREFIX.bin holds the tokens of all sequences; PREFIX.idx holds
// magic (9 bytes), version u64 = 1, type u8, sequences u64, documents u64, then the sequences'
// lengths int32, their byte offsets int64, the documents' first sequences int64, and for multimodal
// data a mode byte a sequence, which is of no use here.
#include <fmt/format.h>

#include <cstring>

#include "kernels/core/error.h"
#include "runtime/data/little_endian.h"
#include "runtime/data/token_formats.h"

namespace hearth {

namespace {

constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
constexpr int64_t kHeaderBytes = 34;

[[noreturn]] void Refuse(const MappedFile& file, const std::string& what) {
  throw IoError(fmt::format("{}: error: {}", file.path(), what));
}

TokenStorage StorageOfCode(const MappedFile& idx, int code) {
  switch (code) {
    case 1:
      return TokenStorage::kUint8;
    case 3:
      return TokenStorage::kInt16;
    case 4:
      return TokenStorage::kInt32;
    case 5:
      return TokenStorage::kInt64;
    case 8:
      return TokenStorage::kUint16;
    default:
      Refuse(idx, fmt::format("type code {} is not an integer type for tokens", code));
  }
}

struct Index {
  std::span<const std::byte> lengths;    // int32 [sequences]
  std::span<const std::byte> pointers;   // int64 [sequences]
  std::span<const std::byte> documents;  // int64 [documents]
  int64_t sequence_count = 0;
  int64_t document_count = 0;
};

Index ReadIndex(const MappedFile& idx) {
  const uint64_t sequences = LoadLittleEndian<uint64_t>(idx.bytes(), 18);
  const uint64_t documents = LoadLittleEndian<uint64_t>(idx.bytes(), 26);
  const uint64_t body = static_cast<uint64_t>(idx.size() - kHeaderBytes);
  // Each bound keeps the sum below from overflowing.
  if (sequences > body / 12 || documents > body / 8) {
    Refuse(idx, fmt::format("{} sequences and {} documents do not fit {} bytes", sequences,
                            documents, idx.size()));
  }
  const uint64_t plain = 12 * sequences + 8 * documents;
  if (body != plain && body != plain + sequences) {
    Refuse(idx, fmt::format("{} sequences and {} documents need {} bytes after the header, not {}",
                            sequences, documents, plain, body));
  }
  const auto bytes = idx.bytes().subspan(kHeaderBytes);
  return {.lengths = bytes.subspan(0, 4 * sequences),
          .pointers = bytes.subspan(4 * sequences, 8 * sequences),
          .documents = bytes.subspan(12 * sequences, 8 * documents),
          .sequence_count = static_cast<int64_t>(sequences),
          .document_count = static_cast<int64_t>(documents)};
}

// The sequences must lie one after the other and fill the .bin; then it is one stream of tokens.
void CheckContiguous(const MappedFile& idx, const MappedFile& bin, const Index& index,
                     int64_t width) {
  int64_t expected = 0;
  for (int64_t i = 0; i < index.sequence_count; ++i) {
    const int64_t length = LoadLittleEndian<int32_t>(index.lengths, 4 * i);
    const int64_t pointer = LoadLittleEndian<int64_t>(index.pointers, 8 * i);
    if (length < 0 || pointer != expected || length > (bin.size() - expected) / width) {
      Refuse(idx, fmt::format("sequence {} of {} tokens at byte {} does not follow byte {} within "
                              "the {} bytes of the .bin",
                              i, length, pointer, expected, bin.size()));
    }
    expected += length * width;
  }
  if (expected != bin.size()) {
    Refuse(bin, fmt::format("the index describes {} bytes, the file has {}; the two do not belong "
                            "together",
                            expected, bin.size()));
  }
}

// First tokens of the documents that have any, beginning with 0.
std::vector<int64_t> DocumentStartsOf(const MappedFile& idx, const Index& index, int64_t width,
                                      int64_t token_count) {
  std::vector<int64_t> starts;
  if (index.document_count == 0 || token_count == 0) return starts;
  starts.push_back(0);
  int64_t previous = 0;
  for (int64_t i = 0; i < index.document_count; ++i) {
    const int64_t sequence = LoadLittleEndian<int64_t>(index.documents, 8 * i);
    if (sequence < previous || sequence > index.sequence_count) {
      Refuse(idx, fmt::format("document {} begins at sequence {} after {} of {}", i, sequence,
                              previous, index.sequence_count));
    }
    previous = sequence;
    if (sequence == index.sequence_count) continue;
    const int64_t start = LoadLittleEndian<int64_t>(index.pointers, 8 * sequence) / width;
    if (start > starts.back() && start < token_count) starts.push_back(start);
  }
  return starts;
}

}  // namespace

TokenLayout ParseMegatron(std::shared_ptr<const MappedFile> bin,
                          std::shared_ptr<const MappedFile> idx) {
  if (idx->size() < kHeaderBytes ||
      std::memcmp(idx->bytes().data(), kMagic.data(), kMagic.size()) != 0) {
    Refuse(*idx, "not a Megatron index: it does not begin with MMIDIDX");
  }
  const uint64_t version = LoadLittleEndian<uint64_t>(idx->bytes(), 9);
  if (version != 1) Refuse(*idx, fmt::format("version {} is not known", version));
  TokenLayout layout;
  layout.format = TokenFormat::kMegatron;
  layout.storage = StorageOfCode(*idx, LoadLittleEndian<uint8_t>(idx->bytes(), 17));
  const int64_t width = BytesPerToken(layout.storage);
  const Index index = ReadIndex(*idx);
  CheckContiguous(*idx, *bin, index, width);
  layout.token_count = bin->size() / width;
  layout.owned_document_starts = DocumentStartsOf(*idx, index, width, layout.token_count);
  layout.tokens = bin->bytes();
  layout.file = std::move(bin);
  layout.index = std::move(idx);
  return layout;
}

}  // namespace hearth
