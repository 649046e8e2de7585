#include "runtime/data/hashing.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

Hash128 FromXxh(const XXH128_hash_t& hash) { return {.low = hash.low64, .high = hash.high64}; }

uint64_t HexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return static_cast<uint64_t>(digit - '0');
  if (digit >= 'a' && digit <= 'f') return static_cast<uint64_t>(digit - 'a' + 10);
  throw IoError(fmt::format("'{}' is not a lower-case hexadecimal digit", digit));
}

}  // namespace

uint64_t Xxh3Hash64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Hash128 Xxh3Hash128(std::span<const std::byte> bytes) {
  return FromXxh(XXH3_128bits(bytes.data(), bytes.size()));
}

Hash128 Xxh3Hash128(std::string_view text) {
  return FromXxh(XXH3_128bits(text.data(), text.size()));
}

std::string ToHex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

Hash128 Hash128FromHex(std::string_view digits) {
  if (digits.size() != 32) {
    throw IoError(fmt::format("a 128-bit hash has 32 hexadecimal digits, not {}", digits.size()));
  }
  Hash128 hash;
  for (size_t i = 0; i < 16; ++i) {
    hash.high = hash.high << 4 | HexDigit(digits[i]);
    hash.low = hash.low << 4 | HexDigit(digits[i + 16]);
  }
  return hash;
}

struct StreamingHash128::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

StreamingHash128::StreamingHash128() : state_(std::make_unique<State>()) {
  CHECK(state_->xxh != nullptr && XXH3_128bits_reset(state_->xxh) == XXH_OK,
        "the hash state could not be made");
}

StreamingHash128::~StreamingHash128() = default;

void StreamingHash128::Update(std::span<const std::byte> bytes) {
  CHECK(XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()) == XXH_OK,
        "hashing {} bytes failed", bytes.size());
}

Hash128 StreamingHash128::Digest() const { return FromXxh(XXH3_128bits_digest(state_->xxh)); }

}  // namespace hearth
