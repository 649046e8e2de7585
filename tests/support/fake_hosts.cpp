#include "tests/support/fake_hosts.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace hearth::test {

namespace {

// As sshd: takes commands, runs each in an environment of its own. $1: the host's name. Started in
// the shared folder, so that its path is not among the arguments.
constexpr const char* kHost = R"sh(
hostname "$1" && mount --bind "host-$1" jobs || exit 1
exec 3<>"queue-$1"
while read -r job <&3; do
  ( env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/ ASAN_OPTIONS="$ASAN_OPTIONS" \
      sh "$job" </dev/null >"$job.out" 2>&1
    echo $? >"$job.next"; mv "$job.next" "$job.end" ) 3>&- &
done
)sh";

// As ssh: HOST COMMAND...
constexpr const char* kAgent = R"sh(
host=$1; shift
cd "$(dirname "$0")" || exit 1
job=request-$host-$$
printf '%s\n' "$*" >"$job"
echo "$job" >"queue-$host"
while [ ! -e "$job.end" ]; do sleep 0.05; done
cat "$job.out" >&2
exit "$(cat "$job.end")"
)sh";

pid_t StartHost(const std::filesystem::path& folder, const char* name, const char* script) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  if (chdir(folder.c_str()) != 0) _exit(1);
  const int null = open("/dev/null", O_RDWR);
  for (int stream = 0; stream < 3; ++stream) dup2(null, stream);
  execlp("unshare", "unshare", "--user", "--map-root-user", "--uts", "--mount", "--pid", "--fork",
         "--mount-proc", "--kill-child", "sh", "-c", script, "sh", name, nullptr);
  _exit(127);
}

}  // namespace

FakeHosts::FakeHosts(const std::filesystem::path& folder, const std::vector<std::string>& names)
    : folder_(folder), names_(names) {
  std::ofstream(folder_ / "agent") << kAgent;
  for (const std::string& name : names_) {
    std::filesystem::create_directory(folder_ / ("host-" + name));
    mkfifo((folder_ / ("queue-" + name)).c_str(), 0600);
    hosts_.push_back(StartHost(folder_, name.c_str(), kHost));
  }
}

FakeHosts::~FakeHosts() {
  for (const pid_t host : hosts_) {
    kill(host, SIGKILL);
    waitpid(host, nullptr, 0);
  }
}

bool FakeHosts::AreClean() const {
  for (const std::string& name : names_) {
    if (!std::filesystem::is_empty(folder_ / ("host-" + name))) return false;
  }
  return true;
}

bool FakeHosts::AreAllowed(std::string* why) {
  const pid_t pid = StartHost("/", "probe", "hostname \"$1\" && mount --bind /tmp /mnt");
  int status = 0;
  waitpid(pid, &status, 0);
  *why = "no user namespaces with names and mounts of their own here (unshare)";
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace hearth::test
