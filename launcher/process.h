// Child processes that cannot outlive their parent, and what /proc knows about others.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace hearth {

struct ProcessOptions {
  std::vector<std::string> arguments;    // [0]: the program's path; no shell is involved
  std::vector<std::string> environment;  // "NAME=value", complete
  // The file that standard output and error are appended to; "": this process's own.
  std::string output = {};
  int error = -1;  // the open file that takes standard error; -1: as `output` says
};

// Starts the program in a process group of its own, its standard input empty, its signals as by
// default; the kernel kills it when the calling *thread* ends. Returns its pid. IoError when it
// cannot be started.
pid_t StartProcess(const ProcessOptions& options);

// True while the process runs: false once it is gone or a zombie.
bool IsRunning(pid_t pid);

// Direct children of this process, zombies included.
std::vector<pid_t> Children();

// Makes this process the parent of all its descendants that lose theirs, so that none can get away.
void AdoptOrphans();

// Kills all children but the spared ones with SIGKILL, their orphaned descendants after them, and
// waits until all are gone, at most `timeout_ms`. Returns the exit status (as waitpid gives it) of
// `watched` if that was among them, else -1. Needs AdoptOrphans.
int KillChildren(const std::vector<pid_t>& spared, pid_t watched, int timeout_ms);

// Program `name` in the folders of PATH; "" when there is none.
std::string FindProgram(const std::string& name);

// The running program's own file.
std::string OwnProgram();

// This process's environment.
std::vector<std::string> Environment();

// Sets "NAME=value" in a list of these, replacing what was there.
void SetVariable(std::vector<std::string>* environment, const std::string& name,
                 const std::string& value);

}  // namespace hearth
