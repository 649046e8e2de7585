#include "runtime/telemetry/append_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/core/error.h"

namespace hearth {

AppendFile::AppendFile(const std::filesystem::path& path)
    : path_(path), file_(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) {
  struct stat status {};
  if (file_ < 0 || fstat(file_, &status) != 0) {
    const int error = errno;
    if (file_ >= 0) close(file_);
    throw IoError(fmt::format("{}: cannot be opened: {}", path_.string(), std::strerror(error)));
  }
  size_ = status.st_size;
}

AppendFile::~AppendFile() { close(file_); }

void AppendFile::Append(std::string_view record) {
  size_t written = 0;
  while (written < record.size()) {
    const ssize_t count = pwrite(file_, record.data() + written, record.size() - written,
                                 size_ + static_cast<int64_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      // Best effort: a part that stays is overwritten by the next record.
      if (ftruncate(file_, size_) != 0) errno = error;
      throw IoError(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(error)));
    }
    written += static_cast<size_t>(count);
  }
  size_ += static_cast<int64_t>(record.size());
}

void AppendFile::Sync() {
  if (fsync(file_) != 0) {
    throw IoError(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
  }
}

}  // namespace hearth
