#include "kernels/core/parts.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/core/check.h"

namespace hearth {

void ForParts(int64_t count, int threads, int64_t least,
              const std::function<void(int64_t begin, int64_t end)>& work) {
  CHECK(count >= 0 && least > 0, "{} elements in parts of at least {}", count, least);
  const int64_t part = std::max(DivUp(count, std::max(threads, 1)), least);
  std::vector<std::jthread> helpers;
  for (int64_t begin = part; begin < count; begin += part) {
    helpers.emplace_back([&work, begin, end = std::min(begin + part, count)] { work(begin, end); });
  }
  if (count > 0) work(0, std::min(part, count));
}

void ZeroBytes(void* data, int64_t bytes, int threads) {
  constexpr int64_t kWorthAThread = int64_t{1} << 24;
  ForParts(bytes, threads, kWorthAThread, [data](int64_t begin, int64_t end) {
    std::memset(static_cast<std::byte*>(data) + begin, 0, static_cast<size_t>(end - begin));
  });
}

void TouchPages(void* data, int64_t bytes, int threads) {
  constexpr int64_t kPage = 4096;
  constexpr int64_t kPagesWorthAThread = int64_t{1} << 12;
  ForParts(DivUp(bytes, kPage), threads, kPagesWorthAThread, [data](int64_t begin, int64_t end) {
    // Not to be left out, though it changes nothing.
    auto* const first = static_cast<volatile std::byte*>(data);
    for (int64_t page = begin; page < end; ++page) first[page * kPage] = std::byte{0};
  });
}

}  // namespace hearth
