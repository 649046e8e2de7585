#include "launcher/doctor_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/unit/launcher/fake_system.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;

// The finding of that name; a problem without a name where there is none.
Finding Find(const Findings& findings, const std::string& name) {
  const auto found = std::find_if(findings.begin(), findings.end(),
                                  [&](const Finding& finding) { return finding.name == name; });
  return found == findings.end() ? Finding{Health::kProblem, "", "no such finding", ""} : *found;
}

Finding Look(FakeSystem& system, const std::string& name, const DoctorOptions& options = {}) {
  return Find(Examine(system, options), name);
}

// What each test of a spoilt machine expects.
void ExpectFinding(const Finding& finding, Health health, const std::string& text,
                   const std::string& remedy) {
  EXPECT_EQ(finding.health, health) << finding.name << ": " << finding.text;
  EXPECT_THAT(finding.text, HasSubstr(text)) << finding.name;
  if (health == Health::kOk) {
    EXPECT_EQ(finding.remedy, "") << finding.name;
  } else {
    EXPECT_THAT(finding.remedy, HasSubstr(remedy)) << finding.name;
    EXPECT_NE(finding.remedy, "") << finding.name;
  }
}

TEST(DoctorTest, AHealthyMachineHasNothingButOks) {
  FakeSystem system;
  const Findings findings = Examine(system, {});
  ASSERT_GE(findings.size(), 15u);
  std::vector<std::string> names;
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.health, Health::kOk) << finding.name << ": " << finding.text;
    EXPECT_EQ(finding.remedy, "") << finding.name;
    names.push_back(finding.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_FALSE(HasProblem(findings));
  ExpectFinding(Find(findings, "gpus"), Health::kOk, "none; runs compute on the CPU", "");
  ExpectFinding(Find(findings, "cores"), Health::kOk, "8 usable, 2 NUMA nodes", "");
  ExpectFinding(Find(findings, "disk"), Health::kOk,
                ".: 500.0 GiB free of 900.0 GiB (ext4), writes 1234 MB/s, reads 2346 MB/s", "");
  ExpectFinding(Find(findings, "mpi"), Health::kOk, "Open MPI 4.1.4 (/bin/mpirun)", "");
  EXPECT_THAT(system.tried_disks, testing::ElementsAre("/dev/shm", ". timed"));
}

TEST(DoctorTest, PrecisionsOfTheCpuNameRecipesAndFormats) {
  FakeSystem system;
  const Finding fp8 = Look(system, "precision fp8");
  ExpectFinding(fp8, Health::kOk, "on the CPU, emulated exactly", "");
  EXPECT_THAT(fp8.text, HasSubstr("tensorwise_current, tensorwise_verified"));
  EXPECT_THAT(fp8.text, HasSubstr("e4m3, hybrid"));
  ExpectFinding(Look(system, "precision bf16"), Health::kOk, "on the CPU", "");
}

TEST(DoctorTest, GpusSayWhatTheirArithmeticCanDo) {
  FakeSystem system;
  system.AddGpu("0", "NVIDIA H200", "9.0");
  system.AddGpu("1", "NVIDIA GeForce RTX 3090", "8.6");
  const Findings findings = Examine(system, {});
  ExpectFinding(Find(findings, "gpu 0"), Health::kOk, "NVIDIA H200, sm_90, 79.6 GiB", "");
  ExpectFinding(Find(findings, "cuda"), Health::kOk, "2 of 2 GPUs can be used", "");
  ExpectFinding(Find(findings, "precision bf16"), Health::kOk, "on every GPU", "");
  const Finding fp8 = Find(findings, "precision fp8");
  ExpectFinding(fp8, Health::kWarning, "GPU 1 (NVIDIA GeForce RTX 3090, sm_86) has no FP8 matmuls",
                "compute_dtype: bf16");
  EXPECT_EQ(fp8.text.find("H200"), std::string::npos);
  EXPECT_THAT(fp8.text, HasSubstr("needs sm_89 or later"));
  EXPECT_FALSE(HasProblem(findings));
}

TEST(DoctorTest, ABlackwellCapabilityIsNotTakenForAnOldOne) {
  FakeSystem system;
  system.AddGpu("0", "NVIDIA GeForce RTX 5090", "12.0");
  ExpectFinding(Look(system, "gpu 0"), Health::kOk, "sm_120", "");
  ExpectFinding(Look(system, "precision fp8"), Health::kOk, "on every GPU", "");
}

TEST(DoctorTest, GpusThatCannotBeUsedAreProblems) {
  FakeSystem old;
  old.AddGpu("0", "Tesla V100", "7.0");
  ExpectFinding(Look(old, "gpu 0"), Health::kWarning, "8.0 or later", "device: cpu");
  old.AddGpu("1", "NVIDIA H200", "9.0");
  ExpectFinding(Look(old, "precision fp8"), Health::kOk, "on every GPU", "");  // that is used
  FakeSystem prohibited;
  prohibited.AddGpu("3", "NVIDIA H200", "9.0", "570.86, 81559, 4, Prohibited, Disabled");
  ExpectFinding(Look(prohibited, "gpu 3"), Health::kProblem, "compute mode",
                "nvidia-smi -i 3 -c DEFAULT");
  FakeSystem taken;
  taken.AddGpu("0", "NVIDIA H200", "9.0", "570.86, 81559, 40000, Default, Disabled");
  ExpectFinding(Look(taken, "gpu 0"), Health::kWarning, "other programs", "memory.gpu_budget");
  FakeSystem cut;
  cut.AddGpu("0", "NVIDIA H200", "9.0", "570.86, 81559, 4, Default, Enabled");
  ExpectFinding(Look(cut, "gpu 0"), Health::kWarning, "MIG", "CUDA_VISIBLE_DEVICES");
  FakeSystem unusable;
  unusable.AddGpu("0", "NVIDIA H200", "9.0");
  unusable.gpus = GpuCount{.count = 0, .why_none = "driver too old"};
  ExpectFinding(Look(unusable, "cuda"), Health::kProblem, "driver too old", "driver");
  ExpectFinding(Look(unusable, "precision fp8"), Health::kOk, "on the CPU", "");
  unusable.gpus = std::nullopt;
  ExpectFinding(Look(unusable, "cuda"), Health::kProblem, "did not answer", "dmesg");
}

TEST(DoctorTest, AGpuThatThisBuildOrDriverCannotReachIsSaid) {
  FakeSystem without_code;
  without_code.AddGpu("0", "NVIDIA H200", "9.0");
  without_code.cuda = false;
  ExpectFinding(Look(without_code, "cuda"), Health::kWarning, "no CUDA backend", "make build");
  without_code.libraries = {};  // which such a build does not load
  EXPECT_FALSE(HasProblem(Examine(without_code, {})));
  FakeSystem no_driver;
  no_driver.folders["/sys/bus/pci/devices"] = {"0000:01:00.0", "0000:02:00.0"};
  no_driver.files["/sys/bus/pci/devices/0000:01:00.0/vendor"] = "0x10de\n";
  no_driver.files["/sys/bus/pci/devices/0000:01:00.0/class"] = "0x030200\n";
  no_driver.files["/sys/bus/pci/devices/0000:02:00.0/vendor"] = "0x10de\n";  // its audio
  no_driver.files["/sys/bus/pci/devices/0000:02:00.0/class"] = "0x040300\n";
  ExpectFinding(Look(no_driver, "gpus"), Health::kWarning, "1 NVIDIA on the PCI bus",
                "install NVIDIA's driver");
  FakeSystem broken = no_driver;
  broken.programs["nvidia-smi"] = "/bin/nvidia-smi";
  broken.outputs["/bin/nvidia-smi"] =
      FakeSystem::Said("Failed to initialize NVML: Driver/library version mismatch\n", 18);
  ExpectFinding(Look(broken, "gpus"), Health::kWarning, "Driver/library version mismatch",
                "restart");
  broken.outputs["/bin/nvidia-smi"] = FakeSystem::Hung();
  ExpectFinding(Look(broken, "gpus"), Health::kWarning, "does not answer", "dmesg");
  FakeSystem lacking;
  lacking.AddGpu("0", "NVIDIA H200", "9.0");
  lacking.libraries["libnvidia-ml.so.1"] = false;
  lacking.libraries["libcuda.so.1"] = std::nullopt;
  lacking.libraries["libcudnn.so.9"] = false;
  lacking.libraries["libnccl.so.2"] = false;
  ExpectFinding(Look(lacking, "libnvidia-ml.so.1"), Health::kWarning, "cannot be loaded", "driver");
  ExpectFinding(Look(lacking, "libcudnn.so.9"), Health::kWarning, "attention_provider", "our own");
  ExpectFinding(Look(lacking, "libnccl.so.2"), Health::kWarning, "nccl", "libnccl2");
  ExpectFinding(Look(lacking, "libcuda.so.1"), Health::kProblem, "does not answer", "driver");
}

TEST(DoctorTest, CgroupLimitsOfBothVersionsAreFound) {
  FakeSystem v2;
  v2.files["/proc/self/cgroup"] = "0::/user.slice/run.scope\n";
  v2.files["/sys/fs/cgroup/user.slice/run.scope/memory.max"] = "max\n";
  v2.files["/sys/fs/cgroup/user.slice/memory.max"] = "17179869184\n";
  v2.files["/sys/fs/cgroup/user.slice/run.scope/cpu.max"] = "150000 100000\n";
  v2.files["/sys/fs/cgroup/user.slice/cpu.max"] = "max 100000\n";
  v2.files["/sys/fs/cgroup/user.slice/pids.max"] = "100\n";
  ExpectFinding(Look(v2, "host memory"), Health::kOk, "the cgroup allows 16.0 GiB", "");
  ExpectFinding(Look(v2, "cores"), Health::kWarning, "the time of 1.5", "--cpus");
  ExpectFinding(Look(v2, "cgroup processes"), Health::kWarning, "100 processes", "--pids-limit");

  FakeSystem v1;
  v1.files["/proc/self/cgroup"] = "4:memory:/job/7\n1:cpu,cpuacct:/job/7\n0::/\n";
  v1.files["/sys/fs/cgroup/memory/job/7/memory.limit_in_bytes"] = "9223372036854771712\n";
  v1.files["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = "1073741824\n";
  v1.files["/sys/fs/cgroup/cpu/job/7/cpu.cfs_quota_us"] = "-1\n";
  v1.files["/sys/fs/cgroup/cpu/job/7/cpu.cfs_period_us"] = "100000\n";
  v1.files["/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us"] = "200000\n";
  v1.files["/sys/fs/cgroup/cpu/job/cpu.cfs_period_us"] = "100000\n";
  ExpectFinding(Look(v1, "host memory"), Health::kWarning, "small models only", "--memory");
  ExpectFinding(Look(v1, "cores"), Health::kWarning, "the time of 2.0", "taskset -c 0-1 ");
}

TEST(DoctorTest, LittleOrRefusedMemoryIsNamed) {
  FakeSystem small;
  small.files["/proc/meminfo"] = "MemTotal: 65536000 kB\nMemAvailable: 1000000 kB\n";
  ExpectFinding(Look(small, "host memory"), Health::kWarning, "976.6 MiB free",
                "end other programs");
  FakeSystem strict;
  strict.files["/proc/sys/vm/overcommit_memory"] = "2\n";
  ExpectFinding(Look(strict, "overcommit"), Health::kWarning, "refuses", "vm.overcommit_memory=0");
  FakeSystem docker;  // its default of 64 MiB
  docker.disks["/dev/shm"] = DiskFacts{.free_bytes = 64 << 20, .total_bytes = 64 << 20};
  ExpectFinding(Look(docker, "shared memory"), Health::kWarning, "64.0 MiB free", "--shm-size=1g");
  docker.disks["/dev/shm"]->free_bytes = 1 << 20;
  ExpectFinding(Look(docker, "shared memory"), Health::kProblem, "1.0 MiB free", "remount");
  docker.disks["/dev/shm"] = DiskFacts{.problem = "Permission denied"};
  ExpectFinding(Look(docker, "shared memory"), Health::kWarning, "Permission denied", "mount -t");
  docker.disks["/dev/shm"] = std::nullopt;
  ExpectFinding(Look(docker, "shared memory"), Health::kWarning, "no answer", "mount -t");
}

TEST(DoctorTest, LowLimitsAreNamedWithTheCommandThatRaisesThem) {
  FakeSystem system;
  system.limits[ProcessLimit::kLockedMemory] = 64 << 10;
  system.limits[ProcessLimit::kOpenFiles] = 1023;
  system.limits[ProcessLimit::kProcesses] = 10;
  system.limits[ProcessLimit::kFileSize] = 1 << 20;
  const Findings findings = Examine(system, {});
  ExpectFinding(Find(findings, "memlock"), Health::kWarning, "64.0 KiB", "ulimit -l unlimited");
  ExpectFinding(Find(findings, "open files"), Health::kWarning, "1023", "ulimit -n 65536");
  ExpectFinding(Find(findings, "processes"), Health::kProblem, "10", "ulimit -u 65536");
  ExpectFinding(Find(findings, "file size"), Health::kProblem, "1.0 MiB", "ulimit -f unlimited");
  EXPECT_THAT(Find(findings, "memlock").remedy, HasSubstr("--ulimit memlock=-1"));
  system.limits[ProcessLimit::kOpenFiles] = 255;
  ExpectFinding(Look(system, "open files"), Health::kProblem, "255", "ulimit -n");
}

TEST(DoctorTest, SettingsOfTheKernelAreNamed) {
  FakeSystem system;
  system.files["/sys/kernel/mm/transparent_hugepage/enabled"] = "always madvise [never]\n";
  system.io_uring = "Operation not permitted";
  system.files["/sys/devices/system/clocksource/clocksource0/current_clocksource"] = "hpet\n";
  const Findings findings = Examine(system, {});
  ExpectFinding(Find(findings, "huge pages"), Health::kWarning, "never", "echo madvise");
  ExpectFinding(Find(findings, "io_uring"), Health::kWarning, "Operation not permitted", "seccomp");
  ExpectFinding(Find(findings, "clock"), Health::kWarning, "hpet", "clocksource=tsc");
  system.files["/proc/sys/kernel/io_uring_disabled"] = "2\n";
  ExpectFinding(Look(system, "io_uring"), Health::kWarning, "refused",
                "sysctl kernel.io_uring_disabled=0");
  system.wall_time = 0;
  ExpectFinding(Look(system, "clock"), Health::kWarning, "before 2024", "timedatectl");
}

TEST(DoctorTest, DisksThatAreFullSlowOrGoneAreNamed) {
  FakeSystem system;
  system.disks["."]->write_megabytes_s = 40;
  system.disks["."]->direct = false;
  ExpectFinding(Look(system, "disk"), Health::kWarning, "writes 40 MB/s", "faster disk");
  EXPECT_THAT(Look(system, "disk").text, HasSubstr("through the page cache"));
  system.disks["."]->free_bytes = int64_t{5} << 30;
  ExpectFinding(Look(system, "disk"), Health::kWarning, "5.0 GiB free", "save_total_limit");
  system.disks["."]->free_bytes = 5 << 20;
  ExpectFinding(Look(system, "disk"), Health::kProblem, "5.0 MiB free", "output_dir");
  system.disks["."]->problem = "Read-only file system";
  ExpectFinding(Look(system, "disk"), Health::kProblem, "Read-only file system", "--dir");
  ExpectFinding(Look(system, "disk", {.folder = "/nfs"}), Health::kProblem, "/nfs does not answer",
                "mount");
}

TEST(DoctorTest, MpiThatIsMissingForeignOrStuckIsNamed) {
  FakeSystem missing;
  missing.programs["mpirun"] = "";
  ExpectFinding(Look(missing, "mpi"), Health::kProblem, "not in PATH",
                "apt-get install -y openmpi-bin");
  FakeSystem foreign;
  foreign.outputs["/bin/mpirun"] = FakeSystem::Said("HYDRA build details:\n");
  ExpectFinding(Look(foreign, "mpi"), Health::kProblem, "not Open MPI's", "first in PATH");
  FakeSystem newer;
  newer.outputs["/bin/mpirun"] = FakeSystem::Said("mpirun (Open MPI) 5.0.3\n");
  ExpectFinding(Look(newer, "mpi"), Health::kWarning, "5.0.3", "openmpi-bin");
  FakeSystem stuck;
  stuck.two_ranks = FakeSystem::Hung();
  ExpectFinding(Look(stuck, "ranks"), Health::kProblem, "did not meet within 30 s", "mpirun -n 2");
  stuck.two_ranks = FakeSystem::Said("one\nORTE was unable to start\n-----\n\n", 1);
  ExpectFinding(Look(stuck, "ranks"), Health::kProblem, "ORTE was unable to start", "OMPI_MCA_");
  FakeSystem walled;
  walled.reading = "Operation not permitted";
  ExpectFinding(Look(walled, "process memory"), Health::kWarning, "Operation not permitted",
                "--cap-add SYS_PTRACE");
  walled.files["/proc/sys/kernel/yama/ptrace_scope"] = "2\n";
  ExpectFinding(Look(walled, "process memory"), Health::kWarning, "may not",
                "kernel.yama.ptrace_scope=1");
}

TEST(DoctorTest, HostsAreReachedBySshWithoutAQuestion) {
  FakeSystem system;
  system.outputs["/bin/ssh good"] = FakeSystem::Said("mpirun (Open MPI) 4.1.4\n");
  system.outputs["/bin/ssh older"] = FakeSystem::Said("mpirun (Open MPI) 4.0.3\n");
  system.outputs["/bin/ssh bare"] = FakeSystem::Said("bash: mpirun: command not found\n", 127);
  system.outputs["/bin/ssh locked"] =
      FakeSystem::Said("me@locked: Permission denied (publickey).\r\n", 255);
  system.outputs["/bin/ssh new"] = FakeSystem::Said("Host key verification failed.\r\n", 255);
  system.outputs["/bin/ssh nowhere"] =
      FakeSystem::Said("ssh: Could not resolve hostname nowhere: Name or service not known\n", 255);
  system.outputs["/bin/ssh off"] =
      FakeSystem::Said("ssh: connect to host off port 22: Connection timed out\n", 255);
  system.outputs["/bin/ssh shut"] =
      FakeSystem::Said("ssh: connect to host shut port 22: Connection refused\n", 255);
  system.outputs["/bin/ssh mute"] = FakeSystem::Hung();
  DoctorOptions options;
  for (const char* host :
       {"here", "good", "older", "bare", "locked", "new", "nowhere", "off", "shut", "mute"}) {
    options.hosts.push_back({.name = host, .slots = 1});
  }
  const Findings findings = Examine(system, options);
  ExpectFinding(Find(findings, "host here"), Health::kOk, "this one", "");
  ExpectFinding(Find(findings, "host good"), Health::kOk, "Open MPI 4.1.4", "");
  struct Case {
    const char* host;
    const char* text;
    const char* remedy;
  };
  for (const Case& c :
       {Case{"older", "4.0.3", "the same Open MPI"},
        Case{"bare", "no mpirun", "ssh bare sudo apt-get"},
        Case{"locked", "password", "ssh-copy-id locked"},
        Case{"new", "host key", "ssh new once by hand"},
        Case{"nowhere", "no such name", "/etc/hosts"}, Case{"off", "no answer", "ping off"},
        Case{"shut", "no ssh server", "openssh-server"},
        Case{"mute", "did not come back", "ssh mute true"}}) {
    ExpectFinding(Find(findings, std::string("host ") + c.host), Health::kProblem, c.text,
                  c.remedy);
  }
  for (const std::vector<std::string>& command : system.ran) {
    if (command[0] != "/bin/ssh") continue;
    EXPECT_THAT(command, testing::Contains("BatchMode=yes"));
    EXPECT_THAT(command, testing::Contains("ConnectTimeout=8"));
  }
  system.programs["ssh"] = "";
  ExpectFinding(Look(system, "ssh", options), Health::kProblem, "not in PATH", "openssh-client");
}

TEST(DoctorTest, TheTextIsAlignedAndTheJsonComplete) {
  const Findings findings = {{Health::kOk, "a", "fine", ""},
                             {Health::kWarning, "longer", "two\nlines\x1b[1m", "do it"},
                             {Health::kProblem, "b", "bad \xff", "mend it"}};
  EXPECT_EQ(FindingsText(findings),
            "ok       a       fine\n"
            "warning  longer  two lines [1m\n"
            "                 -> do it\n"
            "problem  b       bad \xff\n"
            "                 -> mend it\n"
            "1 ok, 1 warning, 1 problem\n");
  EXPECT_TRUE(HasProblem(findings));
  const auto json = nlohmann::json::parse(FindingsJson(findings));
  EXPECT_EQ(json.at("ok"), 1);
  EXPECT_EQ(json.at("warnings"), 1);
  EXPECT_EQ(json.at("problems"), 1);
  ASSERT_EQ(json.at("findings").size(), 3u);
  EXPECT_EQ(json.at("findings")[1].at("state"), "warning");
  EXPECT_EQ(json.at("findings")[1].at("name"), "longer");
  EXPECT_EQ(json.at("findings")[2].at("remedy"), "mend it");
}

}  // namespace
}  // namespace hearth::test
