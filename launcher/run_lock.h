// One writer for each output folder.
#pragma once

#include <chrono>
#include <filesystem>

namespace hearth {

// Holds <output_dir>/.lock. The kernel frees it when the process ends, however it ends.
class RunLock {
 public:
  // Creates the folder and locks it. Another run that holds it is waited for, at most `patience`;
  // then ConfigError names its host and process. IoError when the folder cannot be written.
  explicit RunLock(const std::filesystem::path& output_dir,
                   std::chrono::milliseconds patience = std::chrono::seconds(10));
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int file_ = -1;
};

// Whether a run holds the folder's lock now. Creates nothing; false where it cannot be told.
bool IsLocked(const std::filesystem::path& output_dir);

}  // namespace hearth
