#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/model/safetensors.h"

namespace hearth {

namespace {

// `text` as a JSON string with its quotes.
std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

std::string HeaderText(const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  auto out = std::back_inserter(text);
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      fmt::format_to(out, "{}{}:{}", key == metadata.begin()->first ? "" : ",", Quoted(key),
                     Quoted(value));
    }
    text += "}";
  }
  int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    fmt::format_to(out, R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                   text.size() > 1 ? "," : "", Quoted(entry.name), Name(entry.dtype),
                   fmt::join(entry.shape, ","), offset, offset + entry.bytes());
    offset += entry.bytes();
  }
  text += "}";
  // Blanks, so that the data starts at a multiple of eight bytes.
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

int64_t SafetensorsEntry::bytes() const {
  int64_t bytes = SizeOf(dtype);
  for (int64_t extent : shape) bytes *= extent;
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& file,
                                     const std::vector<SafetensorsEntry>& entries,
                                     const std::map<std::string, std::string>& metadata)
    : path_(file) {
  const std::string header = HeaderText(entries, metadata);
  descriptor_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    throw IoError(
        fmt::format("{}: error: cannot be created ({})", path_.string(), std::strerror(errno)));
  }
  const uint64_t header_bytes = header.size();
  missing_bytes_ = static_cast<int64_t>(sizeof header_bytes + header.size());
  for (const SafetensorsEntry& entry : entries) missing_bytes_ += entry.bytes();
  try {
    Append(std::as_bytes(std::span(&header_bytes, 1)));
    Append(std::as_bytes(std::span(header)));
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void SafetensorsWriter::Append(std::span<const std::byte> bytes) {
  CHECK(descriptor_ >= 0 && static_cast<int64_t>(bytes.size()) <= missing_bytes_,
        "{} bytes appended to {}, which lacks {}", bytes.size(), path_.string(), missing_bytes_);
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw IoError(
          fmt::format("{}: error: writing failed ({}); free space or choose another place",
                      path_.string(), std::strerror(errno)));
    }
    missing_bytes_ -= count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void SafetensorsWriter::Finish(bool sync) {
  CHECK(descriptor_ >= 0 && missing_bytes_ == 0, "{} lacks {} bytes", path_.string(),
        missing_bytes_);
  const bool synced = !sync || ::fsync(descriptor_) == 0;
  const int sync_error = errno;
  const bool closed = ::close(std::exchange(descriptor_, -1)) == 0;
  if (synced && closed) return;
  throw IoError(fmt::format("{}: error: writing failed ({}); free space or choose another place",
                            path_.string(), std::strerror(synced ? errno : sync_error)));
}

}  // namespace hearth
