#include "launcher/mpirun.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"

namespace hearth {
namespace {

using testing::Contains;
using testing::Not;

MpirunOptions Options() {
  MpirunOptions options;
  options.mpirun = "/usr/bin/mpirun";
  options.ranks = 2;
  options.rank_command = {"/opt/hearth", "rank", "a run; rm -rf $HOME.yaml"};
  options.job_folder = "/dev/shm/job";
  options.rank_environment.job_folder = "/dev/shm/job";
  options.rank_environment.launcher_pid = 42;
  options.environment = {"PATH=/bin", "OMPI_COMM_WORLD_RANK=1", "PMIX_RANK=1",
                         "HEARTH_JOB_DIR=/old"};
  return options;
}

// Whether `arguments` holds these in a row.
bool HasSequence(const std::vector<std::string>& arguments,
                 const std::vector<std::string>& sequence) {
  return std::search(arguments.begin(), arguments.end(), sequence.begin(), sequence.end()) !=
         arguments.end();
}

TEST(MpirunTest, TheRanksCommandComesLastAsItIs) {
  const ProcessOptions process = MpirunProcess(Options());
  EXPECT_EQ(process.arguments.front(), "/usr/bin/mpirun");
  const std::vector<std::string> last(process.arguments.end() - 3, process.arguments.end());
  EXPECT_EQ(last, Options().rank_command);
  EXPECT_TRUE(HasSequence(process.arguments, {"-n", "2"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "orte_tmpdir_base", "/dev/shm/job"}));
  EXPECT_TRUE(
      HasSequence(process.arguments, {"--mca", "btl_vader_backing_directory", "/dev/shm/job"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "btl", "self,vader"}));
  EXPECT_THAT(process.arguments, Not(Contains("--allow-run-as-root")));
}

TEST(MpirunTest, RootAndHostsAreToldToMpirun) {
  MpirunOptions options = Options();
  options.as_root = true;
  options.hostfile = "/dev/shm/job/hosts";
  options.folder = "/home/me";
  options.interface = "eth1";
  const ProcessOptions process = MpirunProcess(options);
  EXPECT_THAT(process.arguments, Contains("--allow-run-as-root"));
  EXPECT_TRUE(HasSequence(process.arguments, {"--hostfile", "/dev/shm/job/hosts"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--wdir", "/home/me"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "orte_keep_fqdn_hostnames", "1"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "odls_base_sigkill_timeout", "0"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "btl_tcp_if_include", "eth1"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"--mca", "oob_tcp_if_include", "eth1"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"-x", "NCCL_SOCKET_IFNAME==eth1"}));
  EXPECT_FALSE(HasSequence(process.arguments, {"--mca", "btl", "self,vader"}));
}

TEST(MpirunTest, AnEnvironmentThatForbidsOtherHostsIsAnError) {
  MpirunOptions options = Options();
  options.environment.push_back("OMPI_MCA_plm=isolated");
  EXPECT_EQ(MpirunProcess(options).arguments.front(), "/usr/bin/mpirun");
  options.hostfile = "/dev/shm/job/hosts";
  EXPECT_THROW(MpirunProcess(options), ConfigError);
}

TEST(MpirunTest, TheEnvironmentIsThatOfANewJob) {
  const ProcessOptions process = MpirunProcess(Options());
  EXPECT_THAT(process.environment, Contains("PATH=/bin"));
  EXPECT_THAT(process.environment, Contains("HEARTH_JOB_DIR=/dev/shm/job"));
  EXPECT_THAT(process.environment, Contains("HEARTH_LAUNCHER_PID=42"));
  EXPECT_THAT(process.environment, Contains("OMP_WAIT_POLICY=passive"));
  EXPECT_THAT(process.environment, Not(Contains("OMPI_COMM_WORLD_RANK=1")));
  EXPECT_THAT(process.environment, Not(Contains("PMIX_RANK=1")));
  EXPECT_THAT(process.environment, Not(Contains("HEARTH_JOB_DIR=/old")));
  EXPECT_TRUE(HasSequence(process.arguments, {"-x", "HEARTH_JOB_DIR"}));

  MpirunOptions options = Options();
  options.environment = {"OMP_WAIT_POLICY=active", "OMP_NUM_THREADS=3"};
  const ProcessOptions chosen = MpirunProcess(options);
  EXPECT_THAT(chosen.environment, Contains("OMP_WAIT_POLICY=active"));
  EXPECT_TRUE(HasSequence(chosen.arguments, {"-x", "OMP_NUM_THREADS"}));
}

TEST(MpirunTest, NoDisplayIsAskedUnlessTheUserWantsIt) {
  MpirunOptions options = Options();
  EXPECT_THAT(MpirunProcess(options).environment, Contains("HWLOC_COMPONENTS=-gl,-opencl"));
  options.environment.push_back("HWLOC_COMPONENTS=linux,x86");
  const ProcessOptions process = MpirunProcess(options);
  EXPECT_THAT(process.environment, Contains("HWLOC_COMPONENTS=linux,x86"));
  EXPECT_THAT(process.environment, Not(Contains("HWLOC_COMPONENTS=-gl,-opencl")));
}

TEST(MpirunTest, OtherHostsGetTheLibrariesAndNetworksOfThisOne) {
  MpirunOptions options = Options();
  options.environment = {"PATH=/bin", "LD_LIBRARY_PATH=/opt/lib", "NCCL_IB_HCA=mlx5_0", "SECRET=1"};
  EXPECT_FALSE(HasSequence(MpirunProcess(options).arguments, {"-x", "LD_LIBRARY_PATH"}));
  options.hostfile = "/dev/shm/job/hosts";
  const ProcessOptions process = MpirunProcess(options);
  EXPECT_TRUE(HasSequence(process.arguments, {"-x", "LD_LIBRARY_PATH"}));
  EXPECT_TRUE(HasSequence(process.arguments, {"-x", "NCCL_IB_HCA"}));
  EXPECT_THAT(process.arguments, Not(Contains("SECRET")));
}

TEST(MpirunTest, AnAgentInPlaceOfSshGetsNoOptionsOfSsh) {
  MpirunOptions options = Options();
  options.hostfile = "/dev/shm/job/hosts";
  EXPECT_THAT(MpirunProcess(options).arguments, Contains("plm_rsh_args"));
  options.environment.push_back("OMPI_MCA_plm_rsh_agent=/opt/agent");
  const ProcessOptions process = MpirunProcess(options);
  EXPECT_THAT(process.arguments, Not(Contains("plm_rsh_args")));
  EXPECT_THAT(process.environment, Contains("OMPI_MCA_plm_rsh_agent=/opt/agent"));
}

// Sets variables as long as it lives.
class Variables {
 public:
  using Values = std::vector<std::pair<std::string, std::string>>;

  explicit Variables(Values values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : values_) unsetenv(name.c_str());
  }

 private:
  const Values values_;
};

TEST(RankEnvironmentTest, KnowsItsPlaceUnderSrun) {
  const Variables step({{"SLURM_STEP_NUM_TASKS", "7"},
                        {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                        {"SLURM_NODEID", "2"},
                        {"SLURM_PROCID", "5"},
                        {"SLURM_LOCALID", "1"}});
  RankEnvironment read = ReadRankEnvironment();
  EXPECT_TRUE(read.started_by_srun);
  EXPECT_FALSE(read.has_pmix);
  EXPECT_EQ(read.rank, 5);
  EXPECT_EQ(read.place.rank, 1);
  EXPECT_EQ(read.place.ranks, 2);
  {
    const Variables last({{"SLURM_NODEID", "3"}, {"SLURM_LOCALID", "0"}, {"PMIX_RANK", "6"}});
    read = ReadRankEnvironment();
    EXPECT_TRUE(read.has_pmix);
    EXPECT_EQ(read.place.ranks, 1);
  }
  // mpirun's own rank, whose daemon srun has started.
  const Variables mpirun(Variables::Values{{"OMPI_COMM_WORLD_RANK", "3"}});
  read = ReadRankEnvironment();
  EXPECT_FALSE(read.started_by_srun);
  EXPECT_EQ(read.rank, 3);
}

// The script of a batch job is no rank, though Slurm numbers it.
TEST(RankEnvironmentTest, ABatchScriptIsNoTask) {
  const Variables batch({{"SLURM_NTASKS", "2"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}});
  const RankEnvironment read = ReadRankEnvironment();
  EXPECT_FALSE(read.started_by_srun);
  EXPECT_EQ(read.rank, std::nullopt);
}

TEST(RankEnvironmentTest, ReadsWhatTheLauncherSays) {
  RankEnvironment written;
  written.job_folder = "/dev/shm/x";
  written.launcher_pid = 17;
  written.heartbeat = std::chrono::milliseconds(250);
  written.init_timeout = std::chrono::milliseconds(9000);
  written.terminal_columns = 132;
  written.bind_cores = false;
  written.relay = true;
  for (const LauncherVariable& variable : ToVariables(written)) {
    setenv(variable.name.c_str(), variable.value.c_str(), 1);
  }
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  setenv("OMP_NUM_THREADS", "many", 1);
  const RankEnvironment read = ReadRankEnvironment();
  EXPECT_EQ(read.job_folder, written.job_folder);
  EXPECT_EQ(read.launcher_pid, 17);
  EXPECT_EQ(read.heartbeat, written.heartbeat);
  EXPECT_EQ(read.init_timeout, written.init_timeout);
  EXPECT_EQ(read.collective_timeout, std::nullopt);
  EXPECT_EQ(read.terminal_columns, 132);
  EXPECT_FALSE(read.bind_cores);
  EXPECT_TRUE(read.relay);
  EXPECT_EQ(read.rank, 3);
  EXPECT_EQ(read.threads, std::nullopt);
  for (const LauncherVariable& variable : ToVariables(written)) unsetenv(variable.name.c_str());
  unsetenv("OMPI_COMM_WORLD_RANK");
  unsetenv("OMP_NUM_THREADS");
}

}  // namespace
}  // namespace hearth
