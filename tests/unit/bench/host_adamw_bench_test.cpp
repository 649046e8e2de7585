// The bench of the host optimizer reports what it did; its figures are not judged here.
#include "runtime/bench/host_adamw_bench.h"

#include <gtest/gtest.h>

#include "kernels/backend.h"

namespace hearth::test {
namespace {

TEST(HostAdamwBenchTest, ReportsEveryCase) {
  const auto backend = MakeBackend("cpu", {.threads = 1});
  const HostAdamwBenchResult result =
      BenchHostAdamw(backend->device(), {.threads = 2, .elements = 200'001, .repetitions = 3});
  EXPECT_EQ(result.threads, 2);
  EXPECT_EQ(result.elements, 200'001);
  EXPECT_EQ(result.repetitions, 3);
  EXPECT_FALSE(result.simd_target.empty());
  EXPECT_GT(result.triad_gb_per_s, 0);
  EXPECT_GT(result.in_place_gb_per_s, 0);
  ASSERT_EQ(result.cases.size(), 3u);
  const std::vector<std::pair<std::string, int64_t>> expected = {
      {"m fp32, v fp32, master fp32", 32},
      {"m bf16, v bf16, master fp32", 20},
      {"m bf16, v bf16, master bf16", 16}};
  for (size_t i = 0; i < expected.size(); ++i) {
    const HostAdamwBenchCase& c = result.cases[i];
    EXPECT_EQ(c.state, expected[i].first);
    EXPECT_EQ(c.bytes_per_element, expected[i].second);
    EXPECT_GT(c.milliseconds, 0);
    const double bytes = static_cast<double>(c.bytes_per_element) * 200'001;
    EXPECT_NEAR(c.gb_per_s, bytes / c.milliseconds / 1e6, 1e-6 * c.gb_per_s);
    EXPECT_NEAR(c.fraction_of_triad, c.gb_per_s / result.triad_gb_per_s, 1e-6);
  }
  EXPECT_EQ(backend->device().allocated_bytes(MemoryKind::kPinnedHost), 0);
}

TEST(HostAdamwBenchTest, RefusesNothingToMeasure) {
  const auto backend = MakeBackend("cpu", {.threads = 1});
  EXPECT_THROW(BenchHostAdamw(backend->device(), {.elements = 0}), CheckError);
  EXPECT_THROW(BenchHostAdamw(backend->device(), {.elements = 10, .repetitions = 0}), CheckError);
}

}  // namespace
}  // namespace hearth::test
