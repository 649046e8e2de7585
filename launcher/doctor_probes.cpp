#include "launcher/doctor_probes.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr int64_t kMostBytes = int64_t{128} << 20;
constexpr size_t kAlignment = 4096;  // of O_DIRECT

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

class OpenFile {
 public:
  explicit OpenFile(int file) : file_(file) {}
  ~OpenFile() {
    if (file_ >= 0) close(file_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int number() const { return file_; }

 private:
  int file_;
};

struct KnownFileSystem {
  int64_t magic;
  const char* name;
};

// linux/magic.h, and the magic numbers of file systems that keep theirs to themselves.
constexpr KnownFileSystem kFileSystems[] = {
    {0xEF53, "ext4"},      {0x58465342, "xfs"},
    {0x9123683E, "btrfs"}, {0x01021994, "tmpfs"},
    {0x6969, "nfs"},       {0x794C7630, "overlay"},
    {0x2FC12FC1, "zfs"},   {int64_t{0xFF534D42}, "cifs"},
    {0xFE534D42, "smb2"},  {0x0BD00BD0, "lustre"},
    {0x65735546, "fuse"},  {0x01021997, "9p"},
    {0x00C36400, "ceph"},  {0x47504653, "gpfs"},
    {0xF2F52010, "f2fs"},  {int64_t{0xCA451A4E}, "bcachefs"}};

std::string FileSystemName(int64_t magic) {
  for (const KnownFileSystem& known : kFileSystems) {
    if ((known.magic & 0xFFFFFFFF) == (magic & 0xFFFFFFFF)) return known.name;
  }
  return "";
}

// A file that goes with its descriptor: without a name from the start where the file system can do
// that, else with one that is removed at once. -1 and errno when there is none.
int OpenUnnamed(const std::string& folder) {
  const int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  std::string name = folder + "/.hearth-doctor-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  const int error = errno;
  if (named >= 0) unlink(name.c_str());
  errno = error;
  return named;
}

// Past the page cache, or through it; false where the file system cannot.
bool SetDirect(int file, bool direct) {
  const int flags = fcntl(file, F_GETFL);
  return flags >= 0 && fcntl(file, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

double MegabytesPerSecond(int64_t bytes, Clock::time_point start) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return seconds > 0 ? static_cast<double>(bytes) / seconds * 1e-6 : 0;
}

// Moves pieces until the time or the file is over: bytes moved, or -1 and errno.
template <typename Move>
int64_t MovePieces(Move move, int64_t most_bytes, Clock::time_point deadline) {
  int64_t done = 0;
  while (done < most_bytes && Clock::now() < deadline) {
    const ssize_t count = move(done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    done += count;
  }
  return done;
}

bool HasSpaceFor(const DiskFacts& facts, int64_t bytes) { return facts.free_bytes > 4 * bytes; }

// Returns 0, or errno of what was refused.
int TimeFile(int file, std::chrono::milliseconds time_each, DiskFacts* facts) {
  const std::unique_ptr<void, FreeMemory> piece(
      std::aligned_alloc(kAlignment, static_cast<size_t>(kPieceBytes)));
  if (!piece) return ENOMEM;
  std::memset(piece.get(), 0x5A, static_cast<size_t>(kPieceBytes));
  const auto size = static_cast<size_t>(kPieceBytes);
  const int64_t most = HasSpaceFor(*facts, kMostBytes) ? kMostBytes : kPieceBytes;

  const Clock::time_point write_start = Clock::now();
  const int64_t written =
      MovePieces([&](int64_t at) { return pwrite(file, piece.get(), size, at); }, most,
                 write_start + time_each);
  if (written <= 0 || fdatasync(file) != 0) return errno;
  facts->write_megabytes_s = MegabytesPerSecond(written, write_start);
  if (!facts->direct) posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  const Clock::time_point read_start = Clock::now();
  const int64_t read = MovePieces([&](int64_t at) { return pread(file, piece.get(), size, at); },
                                  written, read_start + time_each);
  if (read <= 0) return errno;
  facts->read_megabytes_s = MegabytesPerSecond(read, read_start);
  return 0;
}

}  // namespace

std::string TrialOfIoUring() {
  io_uring_params parameters{};
  const long ring = syscall(__NR_io_uring_setup, 4, &parameters);
  if (ring < 0) return std::strerror(errno);
  close(static_cast<int>(ring));
  return "";
}

std::string TrialOfReadingAnotherProcess() {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return std::strerror(errno);
  volatile int64_t value = 1;
  const pid_t owner = fork();
  if (owner == 0) {
    value = 2;  // in this process's copy alone
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);  // as Open MPI does
    if (write(ready[1], "", 1) == 1) pause();
    _exit(0);
  }
  std::string problem = owner < 0 ? std::strerror(errno) : "";
  char byte = 0;
  if (owner > 0 && read(ready[0], &byte, 1) == 1) {
    // By a process that is not its parent, which the kernel would let do more.
    const pid_t reader = fork();
    if (reader == 0) {
      int64_t copy = 0;
      iovec mine{&copy, sizeof(copy)};
      iovec theirs{const_cast<int64_t*>(&value), sizeof(value)};
      const ssize_t count = process_vm_readv(owner, &mine, 1, &theirs, 1, 0);
      _exit(count < 0 ? errno : copy == 2 ? 0 : EIO);
    }
    int status = 0;
    if (reader > 0 && waitpid(reader, &status, 0) == reader && WIFEXITED(status)) {
      if (WEXITSTATUS(status) != 0) problem = std::strerror(WEXITSTATUS(status));
    } else {
      problem = "no second process could be started";
    }
  }
  if (owner > 0) {
    kill(owner, SIGKILL);
    waitpid(owner, nullptr, 0);
  }
  close(ready[0]);
  close(ready[1]);
  return problem;
}

DiskFacts TrialOfDisk(const std::string& folder, std::chrono::milliseconds time_each) {
  DiskFacts facts;
  struct statfs space {};
  if (statfs(folder.c_str(), &space) != 0) {
    facts.problem = std::strerror(errno);
    return facts;
  }
  facts.free_bytes = static_cast<int64_t>(space.f_bavail) * space.f_bsize;
  facts.total_bytes = static_cast<int64_t>(space.f_blocks) * space.f_bsize;
  facts.file_system = FileSystemName(space.f_type);
  const OpenFile file(OpenUnnamed(folder));
  if (file.number() < 0) {
    facts.problem = std::strerror(errno);
    return facts;
  }
  if (time_each.count() == 0) return facts;
  if (!HasSpaceFor(facts, kPieceBytes)) {
    facts.problem = "no space for a trial";
    return facts;
  }
  facts.direct = SetDirect(file.number(), true);
  int error = TimeFile(file.number(), time_each, &facts);
  // Some file systems agree to it and then refuse every piece.
  if (error == EINVAL && facts.direct && SetDirect(file.number(), false)) {
    facts.direct = false;
    error = TimeFile(file.number(), time_each, &facts);
  }
  if (error != 0) facts.problem = std::strerror(error);
  return facts;
}

}  // namespace hearth
