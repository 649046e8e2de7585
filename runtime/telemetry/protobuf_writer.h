// The wire format of protocol buffers, as far as logs for other programs need it.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

template <typename Integer>
void AppendLittleEndian(std::string& out, Integer value) {
  for (size_t byte = 0; byte < sizeof(Integer); ++byte) {
    out.push_back(static_cast<char>(value >> (8 * byte) & 0xff));
  }
}

// A message, field by field.
class ProtobufWriter {
 public:
  ProtobufWriter& Integer(int field, int64_t value) {
    Tag(field, kVarint);
    Varint(static_cast<uint64_t>(value));
    return *this;
  }
  ProtobufWriter& Double(int field, double value) {
    Tag(field, kFixed64);
    AppendLittleEndian(bytes_, std::bit_cast<uint64_t>(value));
    return *this;
  }
  ProtobufWriter& Float(int field, float value) {
    Tag(field, kFixed32);
    AppendLittleEndian(bytes_, std::bit_cast<uint32_t>(value));
    return *this;
  }
  // Text, bytes, or a message within this one.
  ProtobufWriter& Bytes(int field, std::string_view value) {
    Tag(field, kLengthDelimited);
    Varint(value.size());
    bytes_ += value;
    return *this;
  }
  ProtobufWriter& Message(int field, const ProtobufWriter& value) {
    return Bytes(field, value.bytes_);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  enum WireType { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>((value & 0x7f) | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  void Tag(int field, WireType type) { Varint(static_cast<uint64_t>(field) << 3 | type); }

  std::string bytes_;
};

}  // namespace hearth
