#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/core/check.h"

namespace hearth::test {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> runs(static_cast<size_t>(count));  // each task has its own element
      pool.ForEach(count, [&](int64_t index) { ++runs[static_cast<size_t>(index)]; });
      for (const int run : runs) ASSERT_EQ(run, 1);
    }
  }
}

// Job after job, back to back and with pauses beyond the spinning time, so that workers are met
// awake, asleep and on the way.
TEST(ThreadPool, ManyShortJobs) {
  ThreadPool pool(3);
  int64_t sum = 0;
  for (int64_t job = 0; job < 3000; ++job) {
    std::vector<int64_t> parts(5);
    pool.ForEach(5, [&](int64_t index) { parts[static_cast<size_t>(index)] = job + index; });
    for (const int64_t part : parts) sum += part;
    if (job % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(sum, 5 * (3000 * 2999 / 2) + 3000 * 10);
}

TEST(ThreadPool, WorkersShareTheWork) {
  ThreadPool pool(2);
  // Both tasks must be inside at once for either to end.
  std::atomic<int> inside = 0;
  pool.ForEach(2, [&](int64_t) {
    ++inside;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (inside < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadPool, FirstExceptionIsRethrownAndThePoolGoesOn) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    EXPECT_THROW(pool.ForEach(100, [](int64_t index) { CHECK(index != 37, "task {}", index); }),
                 CheckError);
    std::atomic<int> runs = 0;
    pool.ForEach(10, [&](int64_t) { ++runs; });
    EXPECT_EQ(runs, 10);
  }
}

TEST(ThreadPool, SeveralCallersAtOnce) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int job = 0; job < 200; ++job) pool.ForEach(8, [&](int64_t index) { sum += index; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 3 * 200 * 28);
}

}  // namespace
}  // namespace hearth::test
