#include "runtime/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "kernels/core/error.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

using testing::HasSubstr;

// A file from its header text and data, as the format describes it.
std::string FileOf(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + data;
}

class SafetensorsTest : public testing::Test {
 protected:
  std::string Refusal(const std::string& bytes) {
    const auto file = folder_.Write("bad.safetensors", bytes);
    const std::string message = MessageOf<IoError>([&] { SafetensorsFile opened(file); });
    EXPECT_THAT(message, HasSubstr("bad.safetensors"));
    EXPECT_THAT(message, HasSubstr("error: "));
    return message;
  }
  std::string HeaderRefusal(const std::string& header, size_t data_bytes) {
    return Refusal(FileOf(header, std::string(data_bytes, 'x')));
  }
  SafetensorsFile Open(const std::string& header, const std::string& data) {
    return SafetensorsFile(folder_.Write("good.safetensors", FileOf(header, data)));
  }

  TestFolder folder_;
};

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST_F(SafetensorsTest, ReadsTensorsInTheOrderOfTheirData) {
  const SafetensorsFile file =
      Open("{\"__metadata__\":{\"format\":\"pt\"}," + Tensor("a", "U8", "[3]", "[4,7]") + "," +
               Tensor("z", "F32", "[1,1]", "[0,4]") + "," + Tensor("e", "F64", "[0,5]", "[7,7]") +
               "," + Tensor("s", "BOOL", "[]", "[7,8]") + "}   ",
           std::string("\0\0\x80\x3f", 4) + "abc!");
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "z");
  EXPECT_EQ(file.tensors()[1].name, "a");
  EXPECT_EQ(file.Find("e")->elements(), 0);
  EXPECT_EQ(file.Find("s")->shape.size(), 0u);
  EXPECT_EQ(file.Find("nothing"), nullptr);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  float value = 0;
  file.ReadFloats(*file.Find("z"), 0, {&value, 1});
  EXPECT_EQ(value, 1.0f);
  char text[2];
  file.ReadBytes(*file.Find("a"), 1, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(std::string(text, 2), "bc");
  EXPECT_THROW(file.ReadBytes(*file.Find("a"), 2, std::as_writable_bytes(std::span(text))),
               CheckError);
  EXPECT_THROW(file.ReadFloats(*file.Find("a"), 0, {&value, 1}), IoError);
}

TEST_F(SafetensorsTest, HostileHeadersAreRefused) {
  EXPECT_THAT(Refusal(""), HasSubstr("too short"));
  EXPECT_THAT(Refusal("1234567"), HasSubstr("too short"));
  EXPECT_THAT(Refusal(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}"),
              HasSubstr("18446744073709551615"));
  EXPECT_THAT(Refusal(std::string("\x03\0\0\0\0\0\0\0", 8) + "{}"), HasSubstr("header of 3"));
  EXPECT_THAT(HeaderRefusal("", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(HeaderRefusal(" {}", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(HeaderRefusal("[]", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(HeaderRefusal("{\"a\":", 0), HasSubstr("too early"));
  EXPECT_THAT(HeaderRefusal("{\"a\":1}", 0), HasSubstr("a is an integer"));
  EXPECT_THAT(HeaderRefusal("{\"__metadata__\":{\"a\":1}}", 0), HasSubstr("must be a string"));
  EXPECT_THAT(HeaderRefusal("{" + Tensor("a", "U8", "[1]", "[0,1]") + "," +
                                Tensor("a", "U8", "[1]", "[0,1]") + "}",
                            1),
              HasSubstr("twice"));
}

TEST_F(SafetensorsTest, HostileTensorsAreRefused) {
  const auto refusal = [&](const std::string& dtype, const std::string& shape,
                           const std::string& offsets, size_t bytes) {
    return HeaderRefusal("{" + Tensor("a", dtype, shape, offsets) + "}", bytes);
  };
  EXPECT_THAT(refusal("F33", "[1]", "[0,4]", 4), HasSubstr("F33"));
  EXPECT_THAT(refusal("F32", "[2]", "[0,4]", 4), HasSubstr("need 8"));
  EXPECT_THAT(refusal("F32", "[-1]", "[0,4]", 4), HasSubstr("is -1"));
  EXPECT_THAT(refusal("F32", "[1.0]", "[0,4]", 4), HasSubstr("integer"));
  EXPECT_THAT(refusal("F32", "1", "[0,4]", 4), HasSubstr("list"));
  EXPECT_THAT(refusal("F32", "[1]", "[0,4,8]", 4), HasSubstr("two numbers"));
  EXPECT_THAT(refusal("F32", "[1]", "[4,0]", 4), HasSubstr("data_offsets[1]"));
  EXPECT_THAT(refusal("F32", "[1]", "[-4,0]", 4), HasSubstr("data_offsets[0]"));
  EXPECT_THAT(refusal("F32", "[1]", "[4,8]", 8), HasSubstr("begins at byte 4"));
  EXPECT_THAT(refusal("F32", "[1]", "[0,4]", 3), HasSubstr("of 3 bytes"));
  EXPECT_THAT(refusal("F32", "[1]", "[0,4]", 5), HasSubstr("of 5 bytes"));
  // Products and sums that wrap around 64 bits.
  EXPECT_THAT(refusal("F32", "[4294967296,4294967296]", "[0,0]", 0), HasSubstr("2^50"));
  EXPECT_THAT(refusal("F32", "[9223372036854775807]", "[0,4]", 4), HasSubstr("between"));
  EXPECT_THAT(refusal("U8", "[1]", "[9223372036854775807,9223372036854775808]", 1),
              HasSubstr("between"));
  EXPECT_THAT(refusal("F32", "[0,4294967296,4294967296]", "[0,4]", 4), HasSubstr("need 0"));
  EXPECT_THAT(HeaderRefusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1),
              HasSubstr("data_offsets"));
  EXPECT_THAT(HeaderRefusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],"
                            "\"x\":1}}",
                            1),
              HasSubstr("a.x"));
}

TEST_F(SafetensorsTest, GapsAndOverlapsAreRefused) {
  EXPECT_THAT(HeaderRefusal("{" + Tensor("a", "U8", "[4]", "[0,4]") + "," +
                                Tensor("b", "U8", "[4]", "[3,7]") + "}",
                            7),
              HasSubstr("tensor b begins at byte 3"));
  EXPECT_THAT(HeaderRefusal("{" + Tensor("a", "U8", "[4]", "[0,4]") + "," +
                                Tensor("b", "U8", "[4]", "[5,9]") + "}",
                            9),
              HasSubstr("tensor b begins at byte 5"));
  EXPECT_THAT(HeaderRefusal("{" + Tensor("a", "U8", "[4]", "[0,4]") + "," +
                                Tensor("b", "U8", "[4]", "[0,4]") + "}",
                            4),
              HasSubstr("begins at byte 0"));
}

TEST_F(SafetensorsTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT(MessageOf<IoError>([&] { SafetensorsFile(folder_.path() / "none"); }),
              HasSubstr("No such file"));
  EXPECT_THAT(MessageOf<IoError>([&] { SafetensorsFile file(folder_.path()); }),
              HasSubstr("regular file"));
  ASSERT_EQ(::mkfifo((folder_.path() / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(MessageOf<IoError>([&] { SafetensorsFile file(folder_.path() / "pipe"); }),
              HasSubstr("regular file"));
}

// A file that shrinks while it is open gives an error, not a bus error or old bytes.
TEST_F(SafetensorsTest, AFileCutWhileOpenIsAnError) {
  const SafetensorsFile file = Open("{" + Tensor("a", "U8", "[4]", "[0,4]") + "}", "abcd");
  std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) - 2);
  std::byte bytes[4];
  EXPECT_THROW(file.ReadBytes(*file.Find("a"), 0, bytes), IoError);
}

// Every 16-bit pattern against the definition of the format.
TEST_F(SafetensorsTest, HalfAndBfloat16WidenExactly) {
  std::string data(2 * 65536, '\0');
  for (uint32_t i = 0; i < 65536; ++i) {
    data[2 * i] = static_cast<char>(i & 0xff);
    data[2 * i + 1] = static_cast<char>(i >> 8);
  }
  const SafetensorsFile file = Open("{" + Tensor("h", "F16", "[65536]", "[0,131072]") + "," +
                                        Tensor("b", "BF16", "[256,256]", "[131072,262144]") + "}",
                                    data + data);
  std::vector<float> half(65536);
  std::vector<float> brain(65536);
  file.ReadFloats(*file.Find("h"), 0, half);
  file.ReadFloats(*file.Find("b"), 0, brain);
  for (uint32_t i = 0; i < 65536; ++i) {
    const double sign = i & 0x8000 ? -1.0 : 1.0;
    const auto expect = [&](float value, int exponent_bits, int mantissa_bits) {
      const int bias = (1 << (exponent_bits - 1)) - 1;
      const int exponent = static_cast<int>((i & 0x7fff) >> mantissa_bits);
      const int mantissa = static_cast<int>(i & ((1u << mantissa_bits) - 1));
      if (exponent == (1 << exponent_bits) - 1) {
        ASSERT_EQ(std::isnan(value), mantissa != 0) << i;
        ASSERT_EQ(std::isinf(value), mantissa == 0) << i;
      } else {
        const double significand = exponent == 0 ? std::ldexp(mantissa, -mantissa_bits)
                                                 : 1.0 + std::ldexp(mantissa, -mantissa_bits);
        ASSERT_EQ(value, sign * std::ldexp(significand, std::max(exponent, 1) - bias)) << i;
      }
      ASSERT_EQ(std::signbit(value), sign < 0) << i;
    };
    expect(half[i], 5, 10);
    expect(brain[i], 8, 7);
  }
  float one[3];
  file.ReadFloats(*file.Find("b"), 1000, one);
  EXPECT_EQ(std::memcmp(one, &brain[1000], sizeof one), 0);
}

TEST_F(SafetensorsTest, WrittenFilesReadBackAndAreDeterministic) {
  const std::vector<SafetensorsEntry> entries = {
      {"b \"quoted\"\n", SafetensorsDType::kF32, {2, 3}},
      {"a", SafetensorsDType::kBF16, {5}},
      {"scalar", SafetensorsDType::kI64, {}},
      {"empty", SafetensorsDType::kF32, {0, 7}},
  };
  std::string data(24 + 10 + 8, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 37 + 1);
  const auto write = [&](const char* name, size_t piece) {
    SafetensorsWriter writer(folder_.path() / name, entries, {{"format", "pt"}});
    for (size_t at = 0; at < data.size(); at += piece) {
      const std::string_view part = std::string_view(data).substr(at, piece);
      writer.Append(std::as_bytes(std::span(part)));
    }
    writer.Finish(piece == 1);
  };
  write("one.safetensors", 1);
  write("two.safetensors", 17);
  EXPECT_EQ(FileBytes(folder_.path() / "one.safetensors"),
            FileBytes(folder_.path() / "two.safetensors"));
  const SafetensorsFile file(folder_.path() / "one.safetensors");
  ASSERT_EQ(file.tensors().size(), entries.size());
  std::string read;
  for (const SafetensorsEntry& entry : entries) {
    const SafetensorsTensor* tensor = file.Find(entry.name);
    ASSERT_NE(tensor, nullptr) << entry.name;
    EXPECT_EQ(tensor->dtype, entry.dtype);
    EXPECT_EQ(tensor->shape, entry.shape);
    std::string bytes(static_cast<size_t>(tensor->bytes()), '\0');
    file.ReadBytes(*tensor, 0, std::as_writable_bytes(std::span(bytes)));
    read += bytes;
  }
  EXPECT_EQ(read, data);
  const uint64_t size = std::filesystem::file_size(file.path()) - data.size();
  EXPECT_EQ(size % 8, 0u);
}

TEST_F(SafetensorsTest, TheWriterCountsBytes) {
  const std::vector<SafetensorsEntry> entries = {{"a", SafetensorsDType::kU8, {4}}};
  const std::byte bytes[5] = {};
  SafetensorsWriter writer(folder_.path() / "w.safetensors", entries, {});
  EXPECT_THROW(writer.Append(bytes), CheckError);
  writer.Append(std::span(bytes).first(3));
  EXPECT_THROW(writer.Finish(false), CheckError);
  writer.Append(std::span(bytes).first(1));
  writer.Finish(false);
  EXPECT_THROW(writer.Append(std::span(bytes).first(0)), CheckError);
  EXPECT_THROW(SafetensorsWriter(folder_.path() / "no" / "w.safetensors", entries, {}), IoError);
}

TEST_F(SafetensorsTest, AFullDiskIsAnError) {
  const std::vector<SafetensorsEntry> entries = {{"a", SafetensorsDType::kU8, {4}}};
  EXPECT_THAT(MessageOf<IoError>([&] { SafetensorsWriter writer("/dev/full", entries, {}); }),
              HasSubstr("No space left"));
}

// Random damage of a valid file never crashes and never yields a file whose tensors leave it.
TEST_F(SafetensorsTest, MutatedFilesAreRefusedOrConsistent) {
  const std::string valid =
      FileOf("{\"__metadata__\":{\"k\":\"v\"}," + Tensor("a", "F32", "[2,3]", "[0,24]") + "," +
                 Tensor("b", "BF16", "[4]", "[24,32]") + "}",
             std::string(32, 'd'));
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = valid;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 8);
          break;
        case 2:
          bytes.insert(at, 1, "0123456789[]{},:\"-e."[random() % 20]);
          break;
        default:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
      }
      if (bytes.empty()) break;
    }
    // A new file each time: cutting an old one short makes some file systems wait for the disk.
    std::filesystem::remove(folder_.path() / "mutated.safetensors");
    const auto path = folder_.Write("mutated.safetensors", bytes);
    try {
      const SafetensorsFile file(path);
      ++accepted;
      for (const SafetensorsTensor& tensor : file.tensors()) {
        ASSERT_LE(tensor.end, static_cast<int64_t>(bytes.size()));
        std::vector<std::byte> read(static_cast<size_t>(tensor.bytes()));
        file.ReadBytes(tensor, 0, read);
      }
    } catch (const IoError&) {
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 2500);
}

}  // namespace
}  // namespace hearth
