// A regular file mapped read-only for as long as the object lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace hearth {

class MappedFile {
 public:
  // Throws IoError when the path cannot be opened or is not a regular file. An empty file has empty
  // bytes. The file must not shrink while it is mapped: shards are immutable and replaced by
  // rename.
  explicit MappedFile(const std::string& path);
  // Bytes that are in memory already, read as if they were the content of a file of that path. They
  // are borrowed.
  MappedFile(std::string path, std::span<const std::byte> bytes)
      : path_(std::move(path)), bytes_(bytes), is_mapped_(false) {}
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  bool is_mapped_ = true;
};

}  // namespace hearth
