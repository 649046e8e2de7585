#include "comm/copy_engine/collective_pieces.h"

#include <algorithm>

#include "comm/copy_engine/flag_board.h"

namespace hearth {

SlabRange Piece(const SlabRange& range, int64_t index, int64_t piece_bytes) {
  const int64_t begin = index == 0 ? 0 : std::min(range.bytes, index * piece_bytes);
  return {.offset_bytes = range.offset_bytes + begin,
          .bytes = std::min(piece_bytes, range.bytes - begin)};
}

int64_t CountPieces(const std::vector<SlabRange>& ranges, int64_t piece_bytes) {
  int64_t pieces = 1;
  for (const SlabRange& range : ranges) {
    pieces = std::max(pieces, range.bytes / piece_bytes + (range.bytes % piece_bytes != 0));
  }
  return pieces;
}

int ColumnOf(CollectiveKind kind, std::initializer_list<int64_t> numbers,
             const std::vector<SlabRange>& ranges) {
  uint64_t hash = 0;
  // The finaliser of MurmurHash3, so that every bit of a number reaches the column.
  const auto add = [&](int64_t number) {
    hash ^= static_cast<uint64_t>(number) + 0x9e3779b97f4a7c15u + (hash << 6);
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    hash ^= hash >> 33;
  };
  add(static_cast<int64_t>(kind));
  for (int64_t number : numbers) add(number);
  for (const SlabRange& range : ranges) {
    add(range.offset_bytes);
    add(range.bytes);
  }
  return static_cast<int>(hash % FlagBoard::kColumns);
}

}  // namespace hearth
