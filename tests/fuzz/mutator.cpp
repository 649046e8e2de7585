#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <iterator>

namespace hearth::test {

namespace {

constexpr std::array<uint64_t, 20> kEdges = {0,
                                             1,
                                             2,
                                             0x7f,
                                             0x80,
                                             0xff,
                                             0x100,
                                             0x7fff,
                                             0x8000,
                                             0xffff,
                                             0x10000,
                                             0x7fffffff,
                                             0x80000000,
                                             0xffffffff,
                                             uint64_t{1} << 40,
                                             uint64_t{1} << 61,
                                             (uint64_t{1} << 63) - 1,
                                             uint64_t{1} << 63,
                                             ~uint64_t{0} - 7,
                                             ~uint64_t{0}};

constexpr std::array<const char*, 22> kNumbers = {"0",
                                                  "-1",
                                                  "1",
                                                  "-0",
                                                  "00",
                                                  "1e400",
                                                  "-1e-400",
                                                  "1e30",
                                                  "0.1",
                                                  "1.",
                                                  ".5",
                                                  "0x10",
                                                  "1_000",
                                                  "+1",
                                                  "NaN",
                                                  ".inf",
                                                  "2147483648",
                                                  "4294967296",
                                                  "1099511627776",
                                                  "9223372036854775807",
                                                  "9223372036854775808",
                                                  "18446744073709551616"};

// An input of so many bytes costs twice what an empty one does.
constexpr uint64_t kBytesOfNoInput = 64;
constexpr double kChances = 0x1p50;

}  // namespace

std::string Mutator::Next(const std::vector<std::string>& corpus) {
  std::string bytes = Choose(corpus);
  const size_t changes = 1 + Below(5);
  for (size_t i = 0; i < changes; ++i) Change(bytes, corpus);
  if (bytes.size() > max_bytes_) bytes.resize(max_bytes_);
  return bytes;
}

const std::string& Mutator::Choose(const std::vector<std::string>& corpus) {
  if (chances_.empty()) {
    uint64_t sum = 0;
    for (const std::string& input : corpus) {
      const auto cost = static_cast<double>(kBytesOfNoInput + input.size());
      chances_.push_back(sum += static_cast<uint64_t>(kChances / (cost * std::sqrt(cost))));
    }
  }
  const auto chosen =
      std::upper_bound(chances_.begin(), chances_.end(), Below(chances_.back())) - chances_.begin();
  return corpus[static_cast<size_t>(chosen)];
}

void Mutator::Insert(std::string& bytes, size_t at, const std::string& piece) const {
  if (bytes.size() + piece.size() <= max_bytes_) bytes.insert(at, piece);
}

void Mutator::Change(std::string& bytes, const std::vector<std::string>& corpus) {
  const size_t at = Below(bytes.size() + 1);
  switch (Below(8)) {
    case 0:
    case 1:
      return ChangeBytes(bytes);
    case 2:
      return ChangeBlock(bytes);
    case 3:
      return ChangeNumber(bytes);
    case 4:  // cut off
      bytes.resize(at);
      return;
    case 5: {  // a piece of another input
      const std::string& other = corpus[Below(corpus.size())];
      if (other.empty()) return;
      const size_t begin = Below(other.size());
      return Insert(bytes, at, other.substr(begin, 1 + Below(other.size() - begin)));
    }
    default: {
      if (dictionary_.empty()) return;
      const std::string& word = dictionary_[Below(dictionary_.size())];
      if (Below(2) == 0) return Insert(bytes, at, word);
      bytes.replace(at, std::min(word.size(), bytes.size() - at), word);
    }
  }
}

void Mutator::ChangeBytes(std::string& bytes) {
  if (bytes.empty()) return;
  const size_t at = Below(bytes.size());
  switch (Below(3)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
      return;
    case 1:
      bytes[at] = static_cast<char>(Below(256));
      return;
    default: {
      // A number of two, four or eight bytes, mostly where fields lie.
      const size_t width = size_t{2} << Below(3);
      const size_t aligned = Below(4) == 0 ? at : at / width * width;
      uint64_t value = kEdges[Below(kEdges.size())];
      if (Below(3) == 0) value = 0 - value;
      if (aligned + width <= bytes.size()) std::memcpy(bytes.data() + aligned, &value, width);
    }
  }
}

// Removes, doubles, moves or multiplies a run of bytes.
void Mutator::ChangeBlock(std::string& bytes) {
  if (bytes.empty()) return;
  const size_t begin = Below(bytes.size());
  const size_t count = 1 + Below(std::min<size_t>(bytes.size() - begin, 64));
  const std::string block = bytes.substr(begin, count);
  switch (Below(4)) {
    case 0:
      bytes.erase(begin, count);
      return;
    case 1:
      return Insert(bytes, begin, block);
    case 2:
      bytes.erase(begin, count);
      return Insert(bytes, Below(bytes.size() + 1), block);
    default: {
      std::string many;
      const size_t times = size_t{1} << Below(9);
      for (size_t i = 0; i < times; ++i) many += block;
      return Insert(bytes, begin, many);
    }
  }
}

// Another decimal number in the place of one.
void Mutator::ChangeNumber(std::string& bytes) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(Below(bytes.size() + 1));
  auto begin = std::find_if(from, bytes.end(), is_digit);
  if (begin == bytes.end()) begin = std::find_if(bytes.begin(), bytes.end(), is_digit);
  if (begin == bytes.end()) return;
  const auto end = std::find_if_not(begin, bytes.end(), is_digit);
  bytes.replace(begin, end, kNumbers[Below(kNumbers.size())]);
}

}  // namespace hearth::test
