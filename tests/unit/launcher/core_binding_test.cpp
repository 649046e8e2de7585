#include "launcher/core_binding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

namespace hearth {
namespace {

TEST(CoreBindingTest, SharesAreDisjointWholeAndEven) {
  for (int processors = 1; processors <= 17; ++processors) {
    std::vector<int> all(static_cast<size_t>(processors));
    std::iota(all.begin(), all.end(), 100);
    for (int ranks = 1; ranks <= processors; ++ranks) {
      std::vector<int> given;
      for (int rank = 0; rank < ranks; ++rank) {
        const std::vector<int> mine = ProcessorsOfRank(all, {.rank = rank, .ranks = ranks});
        EXPECT_GE(std::ssize(mine), processors / ranks);
        EXPECT_LE(std::ssize(mine), processors / ranks + 1);
        given.insert(given.end(), mine.begin(), mine.end());
      }
      EXPECT_EQ(given, all);
    }
  }
}

TEST(CoreBindingTest, TooFewProcessorsAreShared) {
  EXPECT_EQ(ProcessorsOfRank({4, 5}, {.rank = 2, .ranks = 3}), (std::vector<int>{4, 5}));
}

TEST(CoreBindingTest, BindingRestrictsWhatIsUsable) {
  const std::vector<int> all = UsableProcessors();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(std::set<int>(all.begin(), all.end()).size(), all.size());
  BindTo({all.back()});
  EXPECT_EQ(UsableProcessors(), std::vector<int>{all.back()});
  BindTo(all);
  EXPECT_EQ(UsableProcessors(), all);
}

}  // namespace
}  // namespace hearth
