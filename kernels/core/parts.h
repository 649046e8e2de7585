// A range shared out to threads that live as long as the call.
#pragma once

#include <cstdint>
#include <functional>

namespace hearth {

// Calls work(begin, end) for parts that together are [0, count), at most `threads` at once and none
// but the last of fewer than `least` elements; the caller's thread does one of them. `work` must
// not throw. Starting a thread takes some ten microseconds.
void ForParts(int64_t count, int threads, int64_t least,
              const std::function<void(int64_t begin, int64_t end)>& work);

// Writes zeros, with as many threads as are of use for so many bytes.
void ZeroBytes(void* data, int64_t bytes, int threads);

// Has the system provide the pages of new memory, which is zeros and stays so: it does that at the
// first write to each. Faster than writing all of it.
void TouchPages(void* data, int64_t bytes, int threads);

}  // namespace hearth
