// Hosts that are this machine under other names: namespaces with names, processes and job folders
// of their own, and in place of ssh a script by which mpirun has commands run there. What runs
// there is no descendant of who asked for it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace hearth::test {

class FakeHosts {
 public:
  // `folder` is seen by all hosts; `folder`/jobs is each host's own, from outside
  // `folder`/host-NAME.
  FakeHosts(const std::filesystem::path& folder, const std::vector<std::string>& names);
  ~FakeHosts();
  FakeHosts(const FakeHosts&) = delete;
  FakeHosts& operator=(const FakeHosts&) = delete;

  // For OMPI_MCA_plm_rsh_agent.
  std::string agent() const { return "/bin/sh " + (folder_ / "agent").string(); }
  // Whether no job has left a file on a host.
  bool AreClean() const;

  // Whether this machine allows them; the reason when it does not.
  static bool AreAllowed(std::string* why);

 private:
  std::filesystem::path folder_;
  std::vector<std::string> names_;
  std::vector<pid_t> hosts_;
};

}  // namespace hearth::test
