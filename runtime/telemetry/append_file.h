// A file that only grows, by whole records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace hearth {

class AppendFile {
 public:
  // Opens or creates the file. IoError when that fails.
  explicit AppendFile(const std::filesystem::path& path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Writes the record behind the last one: as a whole, or not at all and IoError.
  void Append(std::string_view record);
  // Returns when all records are on the disk. IoError when the disk refuses.
  void Sync();

 private:
  std::filesystem::path path_;
  int file_ = -1;
  int64_t size_ = 0;  // bytes of whole records
};

}  // namespace hearth
