#include "launcher/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kPollInterval{10};

struct ProcessStatus {
  char state = 'X';
  pid_t parent = 0;
};

// nullopt when there is no such process.
std::optional<ProcessStatus> ReadStatus(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  // "pid (name) state parent ..."; the name may contain anything, parentheses too.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 4 >= line.size()) return std::nullopt;
  ProcessStatus status;
  status.state = line[name_end + 2];
  const char* begin = line.data() + name_end + 4;
  std::from_chars(begin, line.data() + line.size(), status.parent);
  return status;
}

std::vector<char*> PointersTo(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void ReportAndExit(int errors) {
  const int error = errno;
  if (write(errors, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

// The child's part of StartProcess: only async-signal-safe calls. Reports what failed to `errors`.
[[noreturn]] void BecomeProgram(char* const* arguments, char* const* environment,
                                const ProcessOptions& options, pid_t parent, int errors) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it ended before the kernel was told
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE}) signal(number, SIG_DFL);
  const int empty = open("/dev/null", O_RDONLY);
  if (empty >= 0) dup2(empty, STDIN_FILENO);
  if (!options.output.empty()) {
    const int file = open(options.output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0) ReportAndExit(errors);
    for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) dup2(file, stream);
  }
  if (options.error >= 0) dup2(options.error, STDERR_FILENO);
  execve(arguments[0], arguments, environment);
  ReportAndExit(errors);
}

}  // namespace

pid_t StartProcess(const ProcessOptions& options) {
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment = options.environment;
  const std::vector<char*> argument_pointers = PointersTo(arguments);
  const std::vector<char*> environment_pointers = PointersTo(environment);
  int errors[2];
  if (pipe2(errors, O_CLOEXEC) != 0) {
    throw IoError(fmt::format("no pipe for a child process: {}", std::strerror(errno)));
  }
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child == 0) {
    BecomeProgram(argument_pointers.data(), environment_pointers.data(), options, self, errors[1]);
  }
  const int fork_error = errno;
  close(errors[1]);
  int error = 0;
  // Ends when the program has been started, which closes the child's end of the pipe.
  const bool failed = child < 0 || read(errors[0], &error, sizeof(error)) > 0;
  close(errors[0]);
  if (!failed) return child;
  if (child > 0) waitpid(child, nullptr, 0);
  throw IoError(fmt::format("{}: cannot be started: {}", arguments[0],
                            std::strerror(child < 0 ? fork_error : error)));
}

bool IsRunning(pid_t pid) {
  const std::optional<ProcessStatus> status = ReadStatus(pid);
  return status && status->state != 'Z' && status->state != 'X';
}

std::vector<pid_t> Children() {
  const pid_t self = getpid();
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    const std::optional<ProcessStatus> status = ReadStatus(pid);
    if (status && status->parent == self) children.push_back(pid);
  }
  return children;
}

void AdoptOrphans() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

int KillChildren(const std::vector<pid_t>& spared, pid_t watched, int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  int watched_status = -1;
  while (true) {
    std::vector<pid_t> children = Children();
    std::erase_if(children, [&](pid_t child) {
      return std::find(spared.begin(), spared.end(), child) != spared.end();
    });
    if (children.empty()) return watched_status;
    for (const pid_t child : children) {
      kill(child, SIGKILL);
      int status = 0;
      if (waitpid(child, &status, WNOHANG) == child && child == watched) watched_status = status;
    }
    if (std::chrono::steady_clock::now() > deadline) return watched_status;
    std::this_thread::sleep_for(kPollInterval);
  }
}

std::string FindProgram(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  for (size_t begin = 0; begin <= folders.size();) {
    const size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string candidate = folders.substr(begin, end - begin) + "/" + name;
    if (end > begin && access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return "";
}

std::string OwnProgram() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::vector<std::string> Environment() {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    environment.emplace_back(*variable);
  }
  return environment;
}

void SetVariable(std::vector<std::string>* environment, const std::string& name,
                 const std::string& value) {
  std::erase_if(*environment, [&](const std::string& v) { return v.rfind(name + "=", 0) == 0; });
  environment->push_back(name + "=" + value);
}

}  // namespace hearth
