// Changes inputs in the ways in which files go wrong, and in some that nobody would think of.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace hearth::test {

class Mutator {
 public:
  // The order of changes depends on the seed alone. Inputs grow to at most `max_bytes`.
  Mutator(std::vector<std::string> dictionary, size_t max_bytes, uint64_t seed)
      : dictionary_(std::move(dictionary)), max_bytes_(max_bytes), random_(seed) {}

  // One of the inputs, changed one to five times; `corpus` is not empty and the same in every call.
  // A small one is taken far more often: it is read sooner, and a change of it meets more of what
  // matters.
  std::string Next(const std::vector<std::string>& corpus);

 private:
  const std::string& Choose(const std::vector<std::string>& corpus);
  size_t Below(size_t limit) { return static_cast<size_t>(random_() % limit); }
  void Change(std::string& bytes, const std::vector<std::string>& corpus);
  void ChangeBytes(std::string& bytes);
  void ChangeBlock(std::string& bytes);
  void ChangeNumber(std::string& bytes);
  void Insert(std::string& bytes, size_t at, const std::string& piece) const;

  const std::vector<std::string> dictionary_;
  const size_t max_bytes_;
  std::mt19937_64 random_;
  std::vector<uint64_t> chances_;  // of the inputs, prefix sums
};

}  // namespace hearth::test
