// System calls that fail when a test says so: as on a full or a dying disk, or because the process
// is killed. The calls are this program's own functions of those names, which come before the C
// library's for everything that it links.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hearth::test {

enum class Fault {
  kNone,
  kNoSpace,      // the disk is full from this call on: half of this write, then ENOSPC
  kIoError,      // this call fails with EIO
  kShort,        // this call reads or writes half of what it was asked to, which is no error
  kInterrupted,  // this call is interrupted by a signal (EINTR), which is no error either
  kKill,         // the process dies in this call, half of a write done
};
const char* Name(Fault fault);

// What was called, in order.
struct FileCall {
  std::string name;  // "open" (with O_CREAT), "write", "read", "fsync", "rename", ...
  std::string path;  // the file's; of rename the new name
  std::string from;  // rename: the old name
};

// While it lives, calls of any thread on files are counted, and the call of that number, the first
// being 0, suffers the fault. One at a time. Descriptors 0 to 2 are left alone, and fsync does not
// wait for a disk.
class FaultWindow {
 public:
  FaultWindow(Fault fault, int64_t at);
  ~FaultWindow();
  FaultWindow(const FaultWindow&) = delete;
  FaultWindow& operator=(const FaultWindow&) = delete;

  int64_t calls() const;
  // Whether a call has suffered, in a way that could be noticed.
  bool has_struck() const;
  std::vector<FileCall> log() const;
};

}  // namespace hearth::test
