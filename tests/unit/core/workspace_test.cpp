// How sums over rows are cut, and that workspaces hold their partial sums and no more.
#include "kernels/api/workspace.h"

#include <gtest/gtest.h>

#include "kernels/core/check.h"

namespace hearth {
namespace {

TEST(PartialSumTest, CoversTheRowsInEqualPieces) {
  int64_t before = 0;
  for (int64_t rows = 0; rows < 40'000; rows += rows < 2'100 ? 1 : 61) {
    SCOPED_TRACE(rows);
    const int64_t each = RowsPerPartialSum(rows);
    const int64_t count = PartialSumCount(rows);
    ASSERT_EQ(each % 4, 0);
    ASSERT_GE(each, 4);
    ASSERT_LE(each, 64);
    ASSERT_GE(each, before);
    ASSERT_GE(count * each, rows);
    ASSERT_LT((count - 1) * each, rows);
    before = each;
  }
}

TEST(PartialSumTest, FillsAGpuWhereRowsAreFewAndSavesMemoryWhereTheyAreMany) {
  for (const int64_t rows : {1024, 2048, 4096, 8192, 16'384}) {
    EXPECT_EQ(PartialSumCount(rows), 256) << rows;
  }
  for (const int64_t rows : {3000, 6000, 12'000}) {
    EXPECT_GT(PartialSumCount(rows), 192) << rows;
    EXPECT_LE(PartialSumCount(rows), 256) << rows;
  }
  EXPECT_EQ(RowsPerPartialSum(1), 4);
  EXPECT_EQ(RowsPerPartialSum(16'385), 64);
  EXPECT_EQ(RowsPerPartialSum(int64_t{1} << 40), 64);
}

TEST(PartialSumTest, WorkspacesHoldThePartialSums) {
  for (const int64_t rows : {0, 1, 5, 1025, 4096, 100'000}) {
    SCOPED_TRACE(rows);
    const int64_t bytes = 4 * PartialSumCount(rows) * 320;  // a multiple of 256
    EXPECT_EQ(RmsNormBackwardWorkspaceBytes(rows, 320), bytes);
    EXPECT_EQ(ColumnSumWorkspaceBytes(rows, 320), bytes);
    EXPECT_EQ(RopeBackwardWorkspaceBytes(rows, 4, 2, 320), 2 * bytes);
  }
  // Below what matrix products are given, up to the widest models' usual micro-batches.
  EXPECT_LE(RmsNormBackwardWorkspaceBytes(32'768, 16'384), GemmWorkspaceBytes());
}

}  // namespace
}  // namespace hearth
