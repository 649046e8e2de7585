#include "runtime/data/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/permutation.h"

namespace hearth {
namespace {

std::vector<int64_t> AllImages(const Permutation& permutation) {
  std::vector<int64_t> images;
  for (int64_t i = 0; i < permutation.size(); ++i) images.push_back(permutation(i));
  return images;
}

TEST(Permutation, IsABijectionOfEverySize) {
  std::vector<int64_t> sizes;
  for (int64_t size = 1; size <= 130; ++size) sizes.push_back(size);
  for (const int64_t size : {1000, 4095, 4096, 4097, 10007, 65536}) sizes.push_back(size);
  for (const int64_t size : sizes) {
    std::vector<int64_t> images =
        AllImages(Permutation({.seed = 42, .stream = 3, .pass = 1}, size));
    std::sort(images.begin(), images.end());
    for (int64_t i = 0; i < size; ++i) ASSERT_EQ(images[static_cast<size_t>(i)], i) << size;
  }
}

TEST(Permutation, EveryPartOfTheKeyMatters) {
  const Permutation::Key base{.seed = 42, .use = PermutationUse::kEpoch, .stream = 1, .pass = 2};
  std::set<std::vector<int64_t>> orders;
  const auto add = [&](auto change) {
    Permutation::Key key = base;
    change(key);
    orders.insert(AllImages(Permutation(key, 50)));
  };
  add([](Permutation::Key&) {});
  add([](Permutation::Key& key) { key.seed = 43; });
  add([](Permutation::Key& key) { key.seed += uint64_t{1} << 40; });
  add([](Permutation::Key& key) { key.use = PermutationUse::kDataset; });
  add([](Permutation::Key& key) { key.stream = 2; });
  add([](Permutation::Key& key) { key.pass = 3; });
  add([](Permutation::Key& key) { key.pass += int64_t{1} << 40; });
  EXPECT_EQ(orders.size(), 7u);
}

// Each of 20 positions must receive each of 20 values about equally often over the passes.
TEST(Permutation, LooksUniform) {
  constexpr int64_t kSize = 20;
  constexpr int kPasses = 4000;
  std::vector<double> counts(kSize * kSize, 0);
  int64_t ascents = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const std::vector<int64_t> images = AllImages(Permutation({.seed = 1, .pass = pass}, kSize));
    for (int64_t i = 0; i < kSize; ++i) ++counts[static_cast<size_t>(i * kSize + images[i])];
    for (int64_t i = 1; i < kSize; ++i) ascents += images[i] == images[i - 1] + 1;
  }
  double chi_square = 0;
  const double expected = double{kPasses} / kSize;
  for (const double count : counts)
    chi_square += (count - expected) * (count - expected) / expected;
  // (20 - 1)^2 = 361 degrees of freedom, standard deviation 27; six of them above.
  EXPECT_LE(chi_square, 361 + 6 * 27) << chi_square;
  // Neighbours stay neighbours once in kSize pairs: 19 of them, 1/20 each.
  const double mean_ascents = static_cast<double>(ascents) / kPasses;
  EXPECT_LE(std::abs(mean_ascents - 0.95), 0.1) << mean_ascents;
}

TEST(Permutation, HugeRangesAreSeekable) {
  constexpr int64_t kSize = (int64_t{1} << 61) + 12345;
  const Permutation permutation({.seed = 5}, kSize);
  std::set<int64_t> images;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t image = permutation(kSize - 1 - i);
    EXPECT_TRUE(image >= 0 && image < kSize) << image;
    images.insert(image);
  }
  EXPECT_EQ(images.size(), 1000u);
  EXPECT_GT(*images.rbegin() - *images.begin(), kSize / 2);
  EXPECT_THROW(permutation(kSize), CheckError);
  EXPECT_THROW(permutation(-1), CheckError);
}

using Key = std::pair<int64_t, int64_t>;  // dataset, sample

std::map<Key, int> CountEpochs(const SampleOrder& order, int64_t first, int64_t epochs) {
  std::map<Key, int> counts;
  const int64_t length = order.samples_per_epoch();
  for (int64_t i = first * length; i < (first + epochs) * length; ++i) {
    const DatasetSample sample = order.Locate(i);
    EXPECT_EQ(sample.epoch, i / length);
    ++counts[{sample.dataset, sample.sample}];
  }
  return counts;
}

TEST(SampleOrder, WeightOneGivesEachSampleOnceAnEpoch) {
  const SampleOrder order({{.samples = 37}, {.samples = 1}, {.samples = 200}}, 42);
  EXPECT_EQ(order.samples_per_epoch(), 238);
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const std::map<Key, int> counts = CountEpochs(order, epoch, 1);
    ASSERT_EQ(counts.size(), 238u);
    for (const auto& [key, count] : counts) {
      EXPECT_EQ(count, 1);
      const int64_t samples = std::vector<int64_t>{37, 1, 200}[static_cast<size_t>(key.first)];
      EXPECT_TRUE(key.second >= 0 && key.second < samples);
    }
  }
}

TEST(SampleOrder, WeightsAreSharesAndPassesAreComplete) {
  const SampleOrder order({{.samples = 30, .weight = 2.0},
                           {.samples = 40, .weight = 0.25},
                           {.samples = 7, .weight = 0.5}},
                          42);
  EXPECT_EQ(order.samples_per_epoch(), 60 + 10 + 4);  // 3.5 rounds to 4
  for (const auto& [key, count] : CountEpochs(order, 0, 1)) {
    EXPECT_EQ(count, key.first == 0 ? 2 : 1);
  }
  // Four epochs use up dataset 1 exactly once; seven give dataset 2 four full passes.
  const std::map<Key, int> four = CountEpochs(order, 4, 4);
  for (int64_t sample = 0; sample < 40; ++sample) EXPECT_EQ(four.at({1, sample}), 1);
  const std::map<Key, int> seven = CountEpochs(order, 0, 7);
  for (int64_t sample = 0; sample < 7; ++sample) EXPECT_EQ(seven.at({2, sample}), 4);
}

TEST(SampleOrder, DatasetsAreMixedThroughoutTheEpoch) {
  const SampleOrder order({{.samples = 1000}, {.samples = 3000}}, 7);
  for (int64_t part = 0; part < 4; ++part) {
    int64_t first = 0;
    for (int64_t i = part * 1000; i < (part + 1) * 1000; ++i) first += order.Locate(i).dataset == 0;
    EXPECT_TRUE(first > 190 && first < 310) << part << ": " << first;
  }
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  const SampleOrder order({{.samples = 100}}, 42);
  const SampleOrder other({{.samples = 100}}, 43);
  int same_epoch = 0;
  int same_seed = 0;
  int in_place = 0;
  for (int64_t i = 0; i < 100; ++i) {
    same_epoch += order.Locate(i).sample == order.Locate(100 + i).sample;
    same_seed += order.Locate(i).sample == other.Locate(i).sample;
    in_place += order.Locate(i).sample == i;
  }
  // One agreement is expected of independent orders.
  EXPECT_LT(same_epoch, 10);
  EXPECT_LT(same_seed, 10);
  EXPECT_LT(in_place, 10);
}

TEST(SampleOrder, EveryEpochMixesItsDatasetsAnew) {
  const SampleOrder order({{.samples = 200}, {.samples = 200}}, 42);
  const SampleOrder other({{.samples = 200}, {.samples = 200}}, 43);
  int same_epoch = 0;
  int same_seed = 0;
  for (int64_t i = 0; i < 400; ++i) {
    same_epoch += order.Locate(i).dataset == order.Locate(400 + i).dataset;
    same_seed += order.Locate(i).dataset == other.Locate(i).dataset;
  }
  // 200 of 400 are expected, standard deviation 10.
  EXPECT_LE(std::abs(same_epoch - 200), 60);
  EXPECT_LE(std::abs(same_seed - 200), 60);
}

// The order is part of a checkpoint's promise: these values may never change. They come from a
// second implementation of the order, written in another language.
TEST(SampleOrder, IsWhatItWasWhenTheFirstCheckpointWasWritten) {
  const SampleOrder order({{.samples = 1000}, {.samples = 500, .weight = 0.5}}, 42);
  std::vector<std::tuple<int64_t, int64_t, int64_t>> places;
  for (const int64_t i : {int64_t{0}, int64_t{1}, int64_t{1249}, int64_t{1250}, int64_t{1} << 50}) {
    const DatasetSample place = order.Locate(i);
    places.emplace_back(place.dataset, place.pass, place.sample);
  }
  const std::vector<std::tuple<int64_t, int64_t, int64_t>> expected = {
      {0, 0, 409}, {0, 0, 222}, {0, 0, 394}, {0, 1, 324}, {1, 450359962737, 249}};
  EXPECT_EQ(places, expected);
}

TEST(SampleOrder, RefusesWhatCannotBe) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double weight :
       {0.0, -1.0, infinity, std::numeric_limits<double>::quiet_NaN(), 0.004, 1e300}) {
    EXPECT_THROW(SampleOrder({{.samples = 100, .weight = weight}}, 1), ConfigError) << weight;
  }
  EXPECT_THROW(SampleOrder({{.samples = 0}}, 1), ConfigError);
  EXPECT_THROW(SampleOrder({{.samples = 10}}, 1).Locate(-1), CheckError);
}

}  // namespace
}  // namespace hearth
