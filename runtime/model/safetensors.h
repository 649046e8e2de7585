// The safetensors file format: 8 bytes little-endian header size, a JSON header, the tensors'
// bytes. The header's tensors must tile the rest of the file exactly: no gap, overlap or surplus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

enum class SafetensorsDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};

int64_t SizeOf(SafetensorsDType dtype);
// "F32", "BF16", "F8_E4M3", ...
std::string_view Name(SafetensorsDType dtype);

struct SafetensorsTensor {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<int64_t> shape;  // empty for a scalar
  int64_t begin = 0;           // bytes from the start of the data
  int64_t end = 0;

  int64_t bytes() const { return end - begin; }
  int64_t elements() const { return bytes() / SizeOf(dtype); }
};

// Only this many bytes of header are read.
constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

// An open file whose header has been checked. Reading is thread-safe. IoError for everything that
// is wrong with the file: "FILE: error: what is wrong; what to do".
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;
  ~SafetensorsFile();

  const std::filesystem::path& path() const { return path_; }
  // In the order of their data.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  // Null when there is no such tensor; valid as long as the file.
  const SafetensorsTensor* Find(std::string_view name) const;
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

  // Fills `out` with the tensor's bytes from `offset_bytes` on.
  void ReadBytes(const SafetensorsTensor& tensor, int64_t offset_bytes,
                 std::span<std::byte> out) const;
  // Elements [first, first + out.size()) of an F32, BF16 or F16 tensor; the conversion is exact.
  void ReadFloats(const SafetensorsTensor& tensor, int64_t first, std::span<float> out) const;

 private:
  void ReadHeader();
  void ReadAt(int64_t offset, std::span<std::byte> out) const;
  [[noreturn]] void Fail(const std::string& what_and_remedy) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t data_offset_ = 0;  // of the first tensor in the file
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

// What a writer announces; offsets follow from the order.
struct SafetensorsEntry {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

// Writes one file front to back: the header at once, then the tensors' bytes in the order of the
// entries, in pieces of any size. The bytes depend on the arguments only. IoError when the disk
// refuses; the file is then incomplete and its owner removes it.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& file, const std::vector<SafetensorsEntry>& entries,
                    const std::map<std::string, std::string>& metadata);
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

  void Append(std::span<const std::byte> bytes);
  // Checks that everything announced was written and closes; `sync` waits until the disk has it.
  void Finish(bool sync);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t missing_bytes_ = 0;
};

}  // namespace hearth
