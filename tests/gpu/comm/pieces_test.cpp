#include <gtest/gtest.h>

#include <vector>

#include "comm/copy_engine/collective_pieces.h"

namespace hearth::test {
namespace {

TEST(CollectivePieces, CoverARangeOnce) {
  for (int64_t bytes : {0, 1, 63, 64, 65, 640, 641}) {
    const SlabRange range{.offset_bytes = 7, .bytes = bytes};
    int64_t covered = 0;
    const int64_t pieces = CountPieces({range}, 64);
    EXPECT_GE(pieces, 1);
    for (int64_t index = 0; index < pieces + 2; ++index) {
      const SlabRange piece = Piece(range, index, 64);
      EXPECT_EQ(piece.offset_bytes, 7 + covered);
      EXPECT_LE(piece.bytes, 64);
      covered += piece.bytes;
      EXPECT_TRUE(index < pieces || piece.bytes == 0);
    }
    EXPECT_EQ(covered, bytes);
    EXPECT_EQ(Piece(range, 0, kWholeRange).bytes, bytes);
  }
  EXPECT_EQ(CountPieces({{0, 64}, {64, 1000}, {0, 0}}, 64), 16);
}

// Sizes that differ in any one bit mostly choose different columns.
TEST(CollectivePieces, ColumnsDependOnEveryBit) {
  int equal = 0;
  int pairs = 0;
  for (int bit = 0; bit < 40; ++bit) {
    for (int64_t bytes : {64, 128, 4096, 12345, 1 << 20}) {
      const std::vector<SlabRange> ranges{{0, bytes}, {bytes, bytes}};
      std::vector<SlabRange> others = ranges;
      others[1].bytes ^= int64_t{1} << bit;
      equal += ColumnOf(CollectiveKind::kAllGather, {}, ranges) ==
               ColumnOf(CollectiveKind::kAllGather, {}, others);
      ++pairs;
    }
  }
  EXPECT_LT(equal * 10, pairs);
  // What the conformance cases of communicators take for different.
  EXPECT_NE(ColumnOf(CollectiveKind::kAllReduce, {0, 0}, {{0, 64}}),
            ColumnOf(CollectiveKind::kAllReduce, {0, 0}, {{0, 128}}));
}

}  // namespace
}  // namespace hearth::test
