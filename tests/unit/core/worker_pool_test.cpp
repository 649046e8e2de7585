// Threads that outlive a call.
#include "kernels/core/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "kernels/core/error.h"

namespace hearth::test {
namespace {

TEST(WorkerPoolTest, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 5}) {
    WorkerPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    // Many rounds of few tasks: what a worker that wakes late must not break.
    for (int round = 0; round < 300; ++round) {
      const int64_t count = round % 7 == 0 ? 0 : round % 23;
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      pool.ForEach(count, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
      for (const auto& run : runs) ASSERT_EQ(run.load(), 1) << threads << " threads";
    }
  }
}

// What tasks wrote is visible to the caller, with no atomics of their own.
TEST(WorkerPoolTest, ResultsAreVisibleAfterwards) {
  WorkerPool pool(4);
  std::vector<int64_t> squares(10'000);
  pool.ForEach(10'000, [&](int64_t i) { squares[static_cast<size_t>(i)] = i * i; });
  for (int64_t i = 0; i < 10'000; ++i) ASSERT_EQ(squares[static_cast<size_t>(i)], i * i);
}

TEST(WorkerPoolTest, RefusesNoThreads) { EXPECT_THROW(WorkerPool(0), CheckError); }

}  // namespace
}  // namespace hearth::test
