#include "runtime/checkpoint/folders.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kUnfinished = ".unfinished";
constexpr std::string_view kRemoved = ".removed";

[[noreturn]] void FailDisk(const std::filesystem::path& path, std::string_view what, int error) {
  throw IoError(fmt::format("{}: error: {} ({}); free space or choose another output_dir",
                            path.string(), what, std::strerror(error)));
}

std::filesystem::path Hidden(const std::filesystem::path& output_dir, int64_t step,
                             std::string_view suffix) {
  return output_dir / fmt::format(".{}{}", CheckpointName(step), suffix);
}

void SyncFolder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) FailDisk(folder, "cannot be opened", errno);
  const int failed = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (failed != 0) FailDisk(folder, "cannot be synchronised", failed);
}

void Rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) FailDisk(from, "cannot be renamed", errno);
}

void RemoveTree(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error) FailDisk(folder, "cannot be removed", error.value());
}

std::optional<int64_t> StepOf(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  // Only the name that we would give it ourselves.
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  if (std::to_string(step) != name) return std::nullopt;
  return step;
}

}  // namespace

std::string CheckpointName(int64_t step) { return fmt::format("{}{}", kPrefix, step); }

std::vector<int64_t> CheckpointSteps(const std::filesystem::path& output_dir) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(output_dir, error)) {
    const auto step = StepOf(entry.path().filename().string());
    if (step && entry.is_directory(error)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::filesystem::path MakeUnfinishedFolder(const std::filesystem::path& output_dir, int64_t step) {
  const std::filesystem::path folder = Hidden(output_dir, step, kUnfinished);
  RemoveTree(folder);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) FailDisk(folder, "cannot be created", error.value());
  return folder;
}

// A folder loses its name before its content, so that it is never taken for a damaged checkpoint.
void RemoveCheckpoint(const std::filesystem::path& output_dir, int64_t step) {
  const std::filesystem::path folder = output_dir / CheckpointName(step);
  if (std::error_code ignored; !std::filesystem::exists(folder, ignored)) return;
  const std::filesystem::path removed = Hidden(output_dir, step, kRemoved);
  RemoveTree(removed);
  Rename(folder, removed);
  RemoveTree(removed);
}

void PublishCheckpoint(const std::filesystem::path& unfinished,
                       const std::filesystem::path& output_dir, int64_t step) {
  SyncFolder(unfinished);
  const std::filesystem::path folder = output_dir / CheckpointName(step);
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder, error))) {
    Rename(unfinished, folder);
  } else if (::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) ==
             0) {
    RemoveTree(unfinished);
  } else {
    // Where the file system cannot swap two names.
    RemoveCheckpoint(output_dir, step);
    Rename(unfinished, folder);
  }
  SyncFolder(output_dir);
}

void RemoveOldCheckpoints(const std::filesystem::path& output_dir, int64_t step, int64_t limit) {
  std::vector<int64_t> steps = CheckpointSteps(output_dir);
  std::erase_if(steps, [step](int64_t each) { return each >= step; });
  const int64_t surplus = std::ssize(steps) - (limit - 1);
  for (int64_t i = 0; i < std::min(surplus, std::ssize(steps)); ++i) {
    RemoveCheckpoint(output_dir, steps[static_cast<size_t>(i)]);
  }
}

void RemoveLeftovers(const std::filesystem::path& output_dir) {
  std::vector<std::filesystem::path> leftovers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    for (std::string_view suffix : {kUnfinished, kRemoved}) {
      if (!name.starts_with('.') || !name.ends_with(suffix)) continue;
      if (StepOf(std::string_view(name).substr(1, name.size() - 1 - suffix.size()))) {
        leftovers.push_back(entry.path());
      }
    }
  }
  for (const std::filesystem::path& leftover : leftovers) RemoveTree(leftover);
}

void RequireFreeSpace(const std::filesystem::path& folder, int64_t bytes) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) FailDisk(folder, "cannot be examined", errno);
  const uint64_t free = uint64_t{status.f_bavail} * status.f_frsize;
  if (free >= static_cast<uint64_t>(bytes)) return;
  constexpr double kMiB = 1024.0 * 1024.0;
  throw IoError(fmt::format(
      "{}: error: the checkpoint needs {:.1f} MiB and {:.1f} MiB are free: {:.1f} MiB are missing; "
      "free space, lower checkpoint.save_total_limit or choose another output_dir",
      folder.string(), static_cast<double>(bytes) / kMiB, static_cast<double>(free) / kMiB,
      static_cast<double>(static_cast<uint64_t>(bytes) - free) / kMiB));
}

void WriteDurably(const std::filesystem::path& file, std::string_view bytes) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) FailDisk(file, "cannot be created", errno);
  int failed = 0;
  while (!bytes.empty() && failed == 0) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count > 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      failed = count == 0 ? ENOSPC : errno;
    }
  }
  if (failed == 0 && ::fsync(descriptor) != 0) failed = errno;
  if (::close(descriptor) != 0 && failed == 0) failed = errno;
  if (failed != 0) FailDisk(file, "cannot be written", failed);
}

}  // namespace hearth
