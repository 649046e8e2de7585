#include "kernels/core/parts.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/core/check.h"

namespace hearth {
namespace {

TEST(PartsTest, EveryElementIsInOnePart) {
  for (int threads : {0, 1, 3, 8}) {
    for (int64_t count : {0, 1, 7, 64, 1000}) {
      std::vector<std::atomic<int>> times(static_cast<size_t>(count));
      std::atomic<int> parts = 0;
      ForParts(count, threads, 10, [&](int64_t begin, int64_t end) {
        ++parts;
        ASSERT_LT(begin, end);
        for (int64_t i = begin; i < end; ++i) ++times[static_cast<size_t>(i)];
      });
      for (const std::atomic<int>& time : times) EXPECT_EQ(time, 1) << threads << " " << count;
      EXPECT_LE(parts, std::max(threads, 1));
      EXPECT_LE(parts, (count + 9) / 10);
      EXPECT_EQ(parts > 0, count > 0);
    }
  }
}

TEST(PartsTest, ZerosGoFromTheFirstByteToTheLast) {
  const int64_t bytes = (int64_t{5} << 24) + 3;
  std::vector<char> memory(static_cast<size_t>(bytes) + 2, 'x');
  ZeroBytes(memory.data() + 1, bytes, 4);
  EXPECT_EQ(memory.front(), 'x');
  EXPECT_EQ(memory.back(), 'x');
  EXPECT_EQ(std::count(memory.begin(), memory.end(), '\0'), bytes);
}

// Every page is there afterwards, by the system's own count, and a zero.
TEST(PartsTest, TouchedPagesAreThere) {
  constexpr int64_t kPage = 4096, kBytes = (int64_t{9} << 20) + 1;
  const int64_t pages = DivUp(kBytes, kPage);
  for (int threads : {1, 3}) {
    void* memory = mmap(nullptr, static_cast<size_t>(pages * kPage), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    TouchPages(memory, kBytes, threads);
    std::vector<unsigned char> there(static_cast<size_t>(pages));
    ASSERT_EQ(mincore(memory, static_cast<size_t>(pages * kPage), there.data()), 0);
    EXPECT_EQ(std::count_if(there.begin(), there.end(), [](auto page) { return page & 1; }), pages);
    const char* bytes = static_cast<const char*>(memory);
    EXPECT_EQ(std::count(bytes, bytes + kBytes, '\0'), kBytes);
    munmap(memory, static_cast<size_t>(pages * kPage));
  }
}

}  // namespace
}  // namespace hearth
