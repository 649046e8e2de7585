// XXH3, the hash of everything Hearth writes or promises to recognise again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hearth {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  bool operator==(const Hash128&) const = default;
  auto operator<=>(const Hash128&) const = default;
};

uint64_t Xxh3Hash64(std::span<const std::byte> bytes);
Hash128 Xxh3Hash128(std::span<const std::byte> bytes);
Hash128 Xxh3Hash128(std::string_view text);

// 32 lower-case hexadecimal digits, high word first; FromHex refuses anything else with IoError.
std::string ToHex(const Hash128& hash);
Hash128 Hash128FromHex(std::string_view digits);

// The XXH3-128 of a sequence of pieces, equal to that of their concatenation.
class StreamingHash128 {
 public:
  StreamingHash128();
  ~StreamingHash128();
  StreamingHash128(const StreamingHash128&) = delete;
  StreamingHash128& operator=(const StreamingHash128&) = delete;

  void Update(std::span<const std::byte> bytes);
  Hash128 Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hearth
