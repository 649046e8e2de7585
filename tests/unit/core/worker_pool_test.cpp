// Threads that outlive a call.
#include "kernels/core/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "kernels/core/check.h"
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

TEST(WorkerPoolTest, PartsCoverTheRangeOnceEachByOneThread) {
  for (const int threads : {1, 3, 8}) {
    WorkerPool pool(threads);
    for (const int64_t count : {0, 1, 6, 7, 50, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      std::vector<std::atomic<int>> busy(static_cast<size_t>(threads));
      pool.ForEachPart(count, {.least = 7, .most = 20},
                       [&](int64_t thread, int64_t begin, int64_t end) {
                         EXPECT_EQ(busy.at(static_cast<size_t>(thread))++, 0);
                         EXPECT_LE(end - begin, 20);
                         EXPECT_TRUE(end - begin >= 7 || end == count);
                         for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
                         --busy[static_cast<size_t>(thread)];
                       });
      for (const auto& times : seen) ASSERT_EQ(times.load(), 1) << threads << " threads";
    }
  }
}

// Of several parts that fail, whichever thread was the fastest. The pool works afterwards.
TEST(WorkerPoolTest, TheFirstPartThatFailedIsTold) {
  WorkerPool pool(8);
  for (int round = 0; round < 300; ++round) {
    try {
      pool.ForEachPart(40, {}, [](int64_t, int64_t begin, int64_t) {
        if (begin % 9 == 5) throw IoError(Format("part {}", begin));
      });
      FAIL() << "nothing was thrown";
    } catch (const IoError& error) {
      ASSERT_STREQ(error.what(), "part 5");
    }
  }
  std::atomic<int64_t> sum{0};
  pool.ForEachPart(40, {}, [&](int64_t, int64_t begin, int64_t) { sum += begin; });
  EXPECT_EQ(sum, 40 * 39 / 2);
}

TEST(WorkerPoolTest, RefusesNoThreads) { EXPECT_THROW(WorkerPool(0), CheckError); }

}  // namespace
}  // namespace hearth::test
