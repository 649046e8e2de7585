// Working memory of the threads that compute.
#pragma once

#include <cstdint>

namespace hearth {

// What a block is for; a thread has one of each.
enum class ScratchUse : uint8_t {
  kOp,    // of the stream's thread while it runs one op; its pool's threads read it
  kTask,  // of a thread while it runs one task of an op
};

// `count` floats of unspecified content, 64-byte aligned, that belong to the calling thread until
// its next call for the same use. The block is kept for reuse, grows on demand and ends with the
// thread, so two streams never share one.
float* ThreadScratch(ScratchUse use, int64_t count);

}  // namespace hearth
