#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "launcher/doctor_checks.h"

namespace hearth {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kVersionTimeout{10'000};
constexpr milliseconds kRanksTimeout{30'000};
constexpr milliseconds kSshTimeout{15'000};

bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The last line that says something.
std::string LastLine(const std::string& text) {
  std::string last;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r-") != std::string::npos) last = line;
  }
  return last.empty() ? "no output" : last;
}

// "4.1.4" of "mpirun (Open MPI) 4.1.4"; "" of anything else.
std::string OpenMpiVersion(const std::string& output) {
  constexpr std::string_view kWords = "(Open MPI) ";
  const size_t at = output.find(kWords);
  if (at == std::string::npos) return "";
  const size_t begin = at + kWords.size();
  return output.substr(begin, output.find_first_of(" \r\n", begin) - begin);
}

std::string OwnMpiVersion(System& system) {
  const std::string program = system.FindProgram("mpirun");
  if (program.empty()) return "";
  return OpenMpiVersion(system.RunAll({{program, "--version"}}, kVersionTimeout).at(0).output);
}

void CheckTwoRanks(System& system, Findings* findings) {
  const CommandEnd trial = system.StartTwoRanks(kRanksTimeout);
  if (trial.Succeeded()) {
    findings->push_back(
        {.name = "ranks", .text = "two started by mpirun met each other", .remedy = ""});
    return;
  }
  findings->push_back(
      {.health = Health::kProblem,
       .name = "ranks",
       .text = trial.timed_out
                   ? fmt::format("two started by mpirun did not meet within {} s",
                                 kRanksTimeout.count() / 1000)
                   : fmt::format("mpirun could not start two: {}", LastLine(trial.output)),
       .remedy = "mpirun -n 2 true shows more; unset OMPI_MCA_* variables of other programs"});
}

// Ranks of one host copy large messages out of each other's memory.
void CheckMemoryOfOthers(System& system, Findings* findings) {
  const auto refused = system.TryReadingAnotherProcess();
  Finding finding{.name = "process memory", .text = "ranks may read each other's", .remedy = ""};
  if (!refused || !refused->empty()) {
    const std::string scope = system.ReadText("/proc/sys/kernel/yama/ptrace_scope").value_or("");
    const bool yama = !scope.empty() && scope[0] > '1';
    finding.health = Health::kWarning;
    finding.text = fmt::format(
        "ranks may not read each other's ({}): Open MPI copies twice, or "
        "complains at each message",
        refused ? *refused : "no answer");
    finding.remedy = yama ? "sudo sysctl kernel.yama.ptrace_scope=1"
                          : "export OMPI_MCA_btl_vader_single_copy_mechanism=none, or docker run "
                            "--cap-add SYS_PTRACE";
  }
  findings->push_back(finding);
}

struct SshComplaint {
  const char* words;  // in ssh's output
  const char* meaning;
  const char* remedy;  // {}: the host
};

constexpr SshComplaint kSshComplaints[] = {
    {"Permission denied", "ssh asks for a password", "ssh-copy-id {}"},
    {"Host key verification failed", "its host key is not known, or has changed",
     "ssh {} once by hand, after looking at the key"},
    {"Could not resolve", "no such name", "name {} in /etc/hosts, or write its address"},
    {"Connection refused", "no ssh server answers",
     "on {}: sudo apt-get install -y openssh-server"},
    {"No route to host", "there is no route to it", "ping {}; look at cable, address and firewall"},
    {"timed out", "no answer", "ping {}; look at cable, address and firewall"},
};

Finding HostFinding(const std::string& host, const CommandEnd& end,
                    const std::string& own_version) {
  Finding finding{.health = Health::kProblem, .name = "host " + host, .text = "", .remedy = ""};
  if (end.Succeeded()) {
    const std::string version = OpenMpiVersion(end.output);
    if (version == own_version && !version.empty()) {
      finding.health = Health::kOk;
      finding.text = fmt::format("ssh works; Open MPI {}", version);
      return finding;
    }
    finding.text = fmt::format("ssh works; its mpirun is {}, here it is {}",
                               version.empty() ? LastLine(end.output) : "Open MPI " + version,
                               own_version.empty() ? "missing" : "Open MPI " + own_version);
    finding.remedy = "install the same Open MPI on both";
    return finding;
  }
  if (end.started && end.exit_code == 127) {
    finding.text = "ssh works; it has no mpirun in the PATH of ssh's commands";
    finding.remedy = fmt::format("ssh {} sudo apt-get install -y openmpi-bin", host);
    return finding;
  }
  finding.text = end.timed_out ? "ssh did not come back" : "ssh: " + LastLine(end.output);
  finding.remedy = fmt::format("ssh {} true has to work without a question", host);
  for (const SshComplaint& complaint : kSshComplaints) {
    if (!Contains(end.output, complaint.words)) continue;
    finding.text = fmt::format("{} ({})", complaint.meaning, LastLine(end.output));
    finding.remedy = fmt::format(fmt::runtime(complaint.remedy), host);
    break;
  }
  return finding;
}

bool IsThisHost(System& system, const std::string& host) {
  return host == "localhost" || host == "127.0.0.1" || host == system.HostName();
}

}  // namespace

void CheckMpi(System& system, Findings* findings) {
  const std::string program = system.FindProgram("mpirun");
  if (program.empty()) {
    findings->push_back({.health = Health::kProblem,
                         .name = "mpi",
                         .text = "mpirun is not in PATH; hearth train starts ranks by it",
                         .remedy = "sudo apt-get install -y openmpi-bin"});
    return;
  }
  const std::string version = OwnMpiVersion(system);
  const bool known = version.rfind("4.", 0) == 0;
  findings->push_back(
      {.health = known             ? Health::kOk
                 : version.empty() ? Health::kProblem
                                   : Health::kWarning,
       .name = "mpi",
       .text = version.empty() ? fmt::format("{} is not Open MPI's", program)
               : known         ? fmt::format("Open MPI {} ({})", version, program)
                       : fmt::format("Open MPI {} ({}); tried with 4.1 only", version, program),
       .remedy = known ? "" : "sudo apt-get install -y openmpi-bin, and put it first in PATH"});
  CheckTwoRanks(system, findings);
  CheckMemoryOfOthers(system, findings);
}

void CheckHosts(System& system, const std::vector<HostEntry>& hosts, Findings* findings) {
  std::vector<std::string> others;
  for (const HostEntry& host : hosts) {
    if (IsThisHost(system, host.name)) {
      findings->push_back({.name = "host " + host.name, .text = "this one", .remedy = ""});
    } else {
      others.push_back(host.name);
    }
  }
  if (others.empty()) return;
  const std::string ssh = system.FindProgram("ssh");
  if (ssh.empty()) {
    findings->push_back({.health = Health::kProblem,
                         .name = "ssh",
                         .text = "not in PATH; ranks on other hosts are started by it",
                         .remedy = "sudo apt-get install -y openssh-client"});
    return;
  }
  std::vector<std::vector<std::string>> commands;
  for (const std::string& host : others) {
    commands.push_back(
        {ssh, "-o", "BatchMode=yes", "-o", "ConnectTimeout=8", "--", host, "mpirun --version"});
  }
  const std::vector<CommandEnd> ends = system.RunAll(commands, kSshTimeout);
  const std::string own_version = OwnMpiVersion(system);
  for (size_t i = 0; i < others.size(); ++i) {
    findings->push_back(HostFinding(others[i], ends[i], own_version));
  }
}

Findings Examine(System& system, const DoctorOptions& options) {
  Findings findings;
  CheckGpus(system, &findings);
  CheckCores(system, &findings);
  CheckMemory(system, &findings);
  CheckLimits(system, &findings);
  CheckKernel(system, &findings);
  CheckDisk(system, options.folder, &findings);
  CheckMpi(system, &findings);
  CheckHosts(system, options.hosts, &findings);
  return findings;
}

}  // namespace hearth
