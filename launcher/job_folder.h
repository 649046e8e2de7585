// The folder in which one start of a job keeps what must not outlive it: Open MPI's session folder
// and shared memory, the heartbeat page.
#pragma once

#include <sys/types.h>

#include <filesystem>

namespace hearth {

// Lives in shared memory (/dev/shm) where that can be written, else in the temporary folder. It is
// removed with the object; when this process is killed, by a guard process that waits for that; and
// should the guard be killed too, by the next job that starts.
class JobFolder {
 public:
  // Also removes the folders of jobs whose owner is gone. `base`: where job folders lie; empty for
  // the default. IoError when no folder can be made.
  explicit JobFolder(const std::filesystem::path& base = {});
  ~JobFolder();
  JobFolder(const JobFolder&) = delete;
  JobFolder& operator=(const JobFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // The guard is a child of this process that ends by itself.
  pid_t guard() const { return guard_; }

 private:
  void StartGuard();

  std::filesystem::path path_;
  int owner_lock_ = -1;  // locked as long as this process lives
  int guard_pipe_ = -1;  // the guard waits for its end
  pid_t guard_ = -1;
};

// A rank's part in its job's folder. On the launcher's host the folder is there and the launcher's.
// On another host it is made, or shared with the ranks that have made it: it is taken for
// abandoned when the last of them has ended, and the guard process of the one that made it removes
// it as soon as `starter` (0: nobody) has ended too, which is killed if that takes half a minute.
// Lasts as long as this process. IoError when no folder can be made.
void ShareJobFolder(const std::filesystem::path& folder, pid_t starter);

}  // namespace hearth
