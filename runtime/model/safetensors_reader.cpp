#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "kernels/core/bfloat16.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"
#include "runtime/model/safetensors.h"

namespace hearth {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace {

struct DTypeEntry {
  SafetensorsDType dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<DTypeEntry, 15> kDTypes = {{
    {SafetensorsDType::kBool, "BOOL", 1},
    {SafetensorsDType::kU8, "U8", 1},
    {SafetensorsDType::kI8, "I8", 1},
    {SafetensorsDType::kF8E4M3, "F8_E4M3", 1},
    {SafetensorsDType::kF8E5M2, "F8_E5M2", 1},
    {SafetensorsDType::kU16, "U16", 2},
    {SafetensorsDType::kI16, "I16", 2},
    {SafetensorsDType::kF16, "F16", 2},
    {SafetensorsDType::kBF16, "BF16", 2},
    {SafetensorsDType::kU32, "U32", 4},
    {SafetensorsDType::kI32, "I32", 4},
    {SafetensorsDType::kF32, "F32", 4},
    {SafetensorsDType::kU64, "U64", 8},
    {SafetensorsDType::kI64, "I64", 8},
    {SafetensorsDType::kF64, "F64", 8},
}};

constexpr size_t kMaxRank = 16;
constexpr int64_t kMaxBytes = int64_t{1} << 50;

// Bytes of a tensor, refused through `node` where they exceed any disk.
int64_t CheckedBytes(const JsonNode& node, const std::vector<int64_t>& shape,
                     SafetensorsDType dtype) {
  int64_t bytes = SizeOf(dtype);
  for (int64_t extent : shape) {
    if (extent != 0 && bytes > kMaxBytes / extent) node.Fail("has more than 2^50 bytes");
    bytes *= extent;
  }
  return bytes;
}

SafetensorsDType ReadDType(const JsonNode& node) {
  for (const DTypeEntry& entry : kDTypes) {
    if (entry.name == node.AsString()) return entry.dtype;
  }
  node.Fail(fmt::format("is \"{}\", a type that is not known", node.AsString()));
}

SafetensorsTensor ReadTensor(const std::string& name, const JsonNode& node) {
  for (const std::string& key : node.Keys()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      node.Get(key).Fail("is not a field of a tensor");
    }
  }
  SafetensorsTensor tensor;
  tensor.name = name;
  tensor.dtype = ReadDType(node.Get("dtype"));
  const JsonNode shape = node.Get("shape");
  for (const JsonNode& extent : shape.AsArray()) {
    tensor.shape.push_back(extent.AsInteger(0, kMaxBytes));
  }
  if (tensor.shape.size() > kMaxRank) shape.Fail("has too many dimensions");
  const JsonNode offsets = node.Get("data_offsets");
  const std::vector<JsonNode> ends = offsets.AsArray();
  if (ends.size() != 2) offsets.Fail("must be two numbers");
  tensor.begin = ends[0].AsInteger(0, kMaxBytes);
  tensor.end = ends[1].AsInteger(tensor.begin, kMaxBytes);
  const int64_t bytes = CheckedBytes(shape, tensor.shape, tensor.dtype);
  if (tensor.bytes() != bytes) {
    offsets.Fail(fmt::format("span {} bytes, the shape and type need {}", tensor.bytes(), bytes));
  }
  return tensor;
}

// IEEE half precision, exactly.
float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// out[i] = to_float(values[i]), where `values` may be the upper half of `out`: some are taken out
// of the way before their places are written, so that the loop over them is vector code.
template <typename ToFloatFunction>
void Widen(const std::byte* values, std::span<float> out, const ToFloatFunction& to_float) {
  std::array<uint16_t, 1024> taken;
  while (!out.empty()) {
    const size_t count = std::min(out.size(), taken.size());
    std::memcpy(taken.data(), values, count * sizeof(uint16_t));
    for (size_t i = 0; i < count; ++i) out[i] = to_float(taken[i]);
    values += count * sizeof(uint16_t);
    out = out.subspan(count);
  }
}

}  // namespace

int64_t SizeOf(SafetensorsDType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }
std::string_view Name(SafetensorsDType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file) : path_(file) {
  // Without O_NONBLOCK a pipe of that name would be waited for; regular files ignore it.
  descriptor_ = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) Fail(fmt::format("cannot be opened ({})", std::strerror(errno)));
  try {
    ReadHeader();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_offset_(other.data_offset_),
      tensors_(std::move(other.tensors_)),
      index_(std::move(other.index_)),
      metadata_(std::move(other.metadata_)) {}

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_offset_, other.data_offset_);
  std::swap(tensors_, other.tensors_);
  std::swap(index_, other.index_);
  std::swap(metadata_, other.metadata_);
  return *this;
}

SafetensorsFile::~SafetensorsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void SafetensorsFile::Fail(const std::string& what_and_remedy) const {
  throw IoError(fmt::format("{}: error: {}", path_.string(), OneLine(what_and_remedy)));
}

void SafetensorsFile::ReadHeader() {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) Fail(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) Fail("this is not a regular file");
  const int64_t file_bytes = status.st_size;
  if (file_bytes < 8) Fail("too short for a safetensors file; fetch or copy it again");
  std::array<std::byte, 8> size_bytes{};
  ReadAt(0, size_bytes);
  const auto header_bytes = std::bit_cast<uint64_t>(size_bytes);
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeader) ||
      static_cast<int64_t>(header_bytes) > file_bytes - 8) {
    Fail(
        fmt::format("announces a header of {} bytes in a file of {}; it is damaged or not a "
                    "safetensors file",
                    header_bytes, file_bytes));
  }
  std::string header(header_bytes, '\0');
  ReadAt(8, std::as_writable_bytes(std::span(header)));
  if (!header.starts_with('{')) Fail("the header is not a JSON object; the file is damaged");
  data_offset_ = 8 + static_cast<int64_t>(header_bytes);

  const JsonDocument document = JsonDocument::Parse(
      header, path_.string(), {.max_bytes = kMaxSafetensorsHeader, .max_depth = 4},
      JsonRefusal::kIoError);
  const JsonNode root = document.root();
  root.RequireObject();
  for (const std::string& name : root.Keys()) {
    const JsonNode node = root.Get(name);
    if (name != "__metadata__") {
      tensors_.push_back(ReadTensor(name, node));
      continue;
    }
    node.RequireObject();
    for (const std::string& key : node.Keys()) metadata_[key] = node.Get(key).AsString();
  }
  std::ranges::sort(tensors_, [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t covered = 0;
  for (const SafetensorsTensor& tensor : tensors_) {
    if (tensor.begin != covered) {
      Fail(
          fmt::format("tensor {} begins at byte {} of the data, the one before it ends at {}; the "
                      "file is damaged",
                      tensor.name, tensor.begin, covered));
    }
    covered = tensor.end;
    index_[tensor.name] = static_cast<size_t>(&tensor - tensors_.data());
  }
  if (covered != file_bytes - data_offset_) {
    Fail(
        fmt::format("the tensors end at byte {} of {} bytes of data; the file is cut off or has "
                    "been added to, fetch or copy it again",
                    covered, file_bytes - data_offset_));
  }
}

void SafetensorsFile::ReadAt(int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = ::pread(descriptor_, out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      Fail(fmt::format("reading at byte {} failed ({})", offset, std::strerror(errno)));
    if (count == 0) Fail(fmt::format("ends at byte {}, while it was being read", offset));
    out = out.subspan(static_cast<size_t>(count));
    offset += count;
  }
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::ReadBytes(const SafetensorsTensor& tensor, int64_t offset_bytes,
                                std::span<std::byte> out) const {
  CHECK(offset_bytes >= 0 && static_cast<int64_t>(out.size()) <= tensor.bytes() - offset_bytes,
        "{} bytes from {} of {} with {}", out.size(), offset_bytes, tensor.name, tensor.bytes());
  ReadAt(data_offset_ + tensor.begin + offset_bytes, out);
}

void SafetensorsFile::ReadFloats(const SafetensorsTensor& tensor, int64_t first,
                                 std::span<float> out) const {
  if (tensor.dtype == SafetensorsDType::kF32) {
    ReadBytes(tensor, first * 4, std::as_writable_bytes(out));
    return;
  }
  const bool half = tensor.dtype == SafetensorsDType::kF16;
  if (!half && tensor.dtype != SafetensorsDType::kBF16) {
    Fail(fmt::format("tensor {} is {}; weights must be F32, BF16 or F16", tensor.name,
                     Name(tensor.dtype)));
  }
  // The 16-bit values land in the upper half of `out` and are widened from the front: the value
  // that is read always lies at or behind the one that is written.
  auto* const values = reinterpret_cast<std::byte*>(out.data()) + 2 * out.size();
  ReadBytes(tensor, first * 2, {values, 2 * out.size()});
  if (half) {
    Widen(values, out, HalfToFloat);
  } else {
    Widen(values, out, [](uint16_t bits) { return ToFloat(BFloat16{bits}); });
  }
}

}  // namespace hearth
