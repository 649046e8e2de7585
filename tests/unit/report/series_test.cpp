#include "runtime/report/series.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace hearth::test {
namespace {

using Points = std::vector<std::pair<int64_t, double>>;

Points RandomPoints(int count, int most_gap, unsigned seed) {
  std::mt19937 random(seed);
  Points points;
  int64_t step = 0;
  for (int i = 0; i < count; ++i) {
    step += 1 + static_cast<int64_t>(random() % static_cast<unsigned>(most_gap));
    points.emplace_back(step, static_cast<double>(random() % 10000) / 7.0 - 500);
  }
  return points;
}

// Every bucket is what its own points make, and every point is in one bucket.
void ExpectHonest(const Series& series, const Points& points) {
  size_t at = 0;
  for (const SeriesBucket& bucket : series.buckets()) {
    ASSERT_LT(at, points.size());
    EXPECT_EQ(bucket.first_step, points[at].first);
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    double sum = 0;
    int64_t count = 0;
    for (; at < points.size() && points[at].first <= bucket.last_step; ++at, ++count) {
      low = std::min(low, points[at].second);
      high = std::max(high, points[at].second);
      sum += points[at].second;
    }
    ASSERT_GT(count, 0);
    EXPECT_EQ(bucket.last_step, points[at - 1].first);
    EXPECT_EQ(bucket.count, count);
    EXPECT_EQ(bucket.min, low);
    EXPECT_EQ(bucket.max, high);
    EXPECT_FALSE(!(std::abs(bucket.Mean() - sum / static_cast<double>(count)) <= 1e-9));
  }
  EXPECT_EQ(at, points.size());
}

TEST(SeriesTest, KeepsEveryRecordWhereTheyAreFew) {
  const Points points = RandomPoints(64, 100, 1);
  Series series(64);
  for (const auto& [step, value] : points) series.Add(step, value);
  EXPECT_TRUE(series.IsExact());
  EXPECT_EQ(series.buckets().size(), 64u);
  ExpectHonest(series, points);
}

TEST(SeriesTest, MergesManyIntoTheirMeansAndExtremes) {
  for (const int gap : {1, 10, 1000}) {
    const Points points = RandomPoints(20'000, gap, 2);
    Series series(100);
    for (const auto& [step, value] : points) series.Add(step, value);
    EXPECT_LE(series.buckets().size(), 100u);
    EXPECT_GT(series.buckets().size(), 40u) << "coarser than it has to be";
    EXPECT_FALSE(series.IsExact());
    EXPECT_EQ(series.count(), 20'000);
    EXPECT_EQ(series.last(), points.back().second);
    ExpectHonest(series, points);
    series.Coarsen(10);
    EXPECT_LE(series.buckets().size(), 10u);
    ExpectHonest(series, points);
  }
}

TEST(SeriesTest, StepsOfAnySizeEndInBuckets) {
  Series series(2);
  for (const int64_t step :
       {int64_t{0}, int64_t{1}, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
    series.Add(step, 1);
  }
  EXPECT_LE(series.buckets().size(), 2u);
  EXPECT_EQ(series.count(), 4);
}

TEST(SeriesTest, CountsWhatItCannotDraw) {
  Series series(4);
  series.Add(5, 1);
  series.Add(3, 2);
  series.Add(-1, 2);
  series.Add(6, std::nan(""));
  EXPECT_TRUE(series.ends_not_finite());
  series.Add(7, std::numeric_limits<double>::infinity());
  series.Add(8, -2);
  EXPECT_FALSE(series.ends_not_finite());
  EXPECT_EQ(series.out_of_order(), 2);
  EXPECT_EQ(series.not_finite(), 2);
  EXPECT_EQ(series.first_not_finite_step(), 6);
  EXPECT_EQ(series.count(), 2);
  EXPECT_EQ(series.Min(), -2);
  EXPECT_EQ(series.Max(), 1);
  EXPECT_EQ(series.Lowest()->first_step, 8);
  series.Coarsen(1);
  ASSERT_EQ(series.buckets().size(), 1u);
  EXPECT_EQ(series.buckets()[0].count, 2);
  EXPECT_EQ(series.buckets()[0].not_finite, 2);
  EXPECT_EQ(series.buckets()[0].min, -2);
}

TEST(SeriesTest, MedianHasHalfOfTheRecordsBelow) {
  Series series(100);
  EXPECT_FALSE(series.Median().has_value());
  for (int i = 1; i <= 9; ++i) series.Add(i, i * i);
  EXPECT_EQ(series.Median(), 25);
}

}  // namespace
}  // namespace hearth::test
