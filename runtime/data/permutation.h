// A keyed permutation of {0 .. size-1} with random access in constant time and memory.
#pragma once

#include <array>
#include <cstdint>

namespace hearth {

// What a permutation orders; keys of different purposes are independent.
enum class PermutationUse : uint32_t { kEpoch = 0, kDataset = 1, kHoldout = 2 };

// A Feistel network over an a x b grid that just covers the range, walked until it lands inside
// (J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002), with Philox as its
// round function.
class Permutation {
 public:
  // Pure function of (seed, use, stream, pass). 1 <= size <= 2^62.
  struct Key {
    uint64_t seed = 0;
    PermutationUse use = PermutationUse::kEpoch;
    uint32_t stream = 0;
    int64_t pass = 0;
  };
  Permutation(const Key& key, int64_t size);

  // The image of `index`, 0 <= index < size.
  int64_t operator()(int64_t index) const;
  int64_t size() const { return size_; }

 private:
  uint64_t Round(uint64_t index) const;

  int64_t size_ = 0;
  uint64_t columns_ = 0;  // a
  uint64_t rows_ = 0;     // b; a * b >= size
  uint64_t key_ = 0;
};

}  // namespace hearth
