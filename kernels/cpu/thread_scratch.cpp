#include "kernels/cpu/thread_scratch.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr int64_t kAlignment = 64;

struct FreeBlock {
  void operator()(float* block) const { std::free(block); }
};

struct Block {
  std::unique_ptr<float[], FreeBlock> memory;
  int64_t count = 0;
};

}  // namespace

float* ThreadScratch(ScratchUse use, int64_t count) {
  thread_local std::array<Block, 2> blocks;
  Block& block = blocks[static_cast<size_t>(use)];
  if (block.count < count) {
    // Some slack, so that slowly rising sizes do not allocate at every call.
    const int64_t grown = RoundUp(count + count / 4, kAlignment);
    block.memory.reset();
    block.count = 0;
    block.memory.reset(static_cast<float*>(
        std::aligned_alloc(kAlignment, static_cast<size_t>(grown) * sizeof(float))));
    if (!block.memory) throw std::bad_alloc();
    block.count = grown;
  }
  return block.memory.get();
}

}  // namespace hearth
