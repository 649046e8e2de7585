// What `hearth doctor` looks at and says. All facts come from the System.
#pragma once

#include <string>
#include <vector>

#include "launcher/doctor_system.h"
#include "launcher/hostfile.h"

namespace hearth {

// problem: something that keeps a run from working here.
enum class Health { kOk, kWarning, kProblem };

struct Finding {
  Health health = Health::kOk;
  std::string name;    // of what was looked at, unique
  std::string text;    // one line
  std::string remedy;  // the command or setting that mends it; "" where all is well
};
using Findings = std::vector<Finding>;

struct DoctorOptions {
  std::string folder = ".";      // where runs will be written
  std::vector<HostEntry> hosts;  // to be reached; may be empty
};

// GPUs, their driver and libraries, and what each precision can do on each of them.
void CheckGpus(System& system, Findings* findings);
// How that many GPUs reach each other's memory, by what `hearth probe` has found.
void CheckPeerAccess(System& system, int gpus, Findings* findings);
// Cores, memory and the limits of the process and its cgroups.
void CheckCores(System& system, Findings* findings);
void CheckMemory(System& system, Findings* findings);
void CheckLimits(System& system, Findings* findings);
// The kernel's settings: huge pages, io_uring, clock.
void CheckKernel(System& system, Findings* findings);
void CheckDisk(System& system, const std::string& folder, Findings* findings);
// mpirun with two ranks, what they need of the kernel, and the hosts.
void CheckMpi(System& system, Findings* findings);
void CheckHosts(System& system, const std::vector<HostEntry>& hosts, Findings* findings);

// All of them.
Findings Examine(System& system, const DoctorOptions& options);

// For people, aligned, with a last line that counts; as one JSON object.
std::string FindingsText(const Findings& findings);
std::string FindingsJson(const Findings& findings);
bool HasProblem(const Findings& findings);

}  // namespace hearth
