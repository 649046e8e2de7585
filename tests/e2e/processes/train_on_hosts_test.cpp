// `hearth train --hostfile`: the ranks of a run on hosts that are this machine under other names.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>

#include "tests/e2e/processes/fake_job.h"
#include "tests/support/fake_hosts.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

class TrainingOnHosts : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!FakeHosts::AreAllowed(&why)) GTEST_SKIP() << why;
    unsetenv("OMPI_MCA_plm");  // a container's, where there is no ssh
    for (const char* folder : {"jobs", "one", "two"}) {
      std::filesystem::create_directory(folder_.path() / folder);
    }
    std::ofstream text(folder_.path() / "text");
    for (int i = 0; i < 3000; ++i) text << i * i << " is the square of " << i << ".\n";
    text.close();
    ASSERT_EQ(Hearth("prepare --input text --output data.hearth --tokenizer byte"), 0);
    std::ofstream(folder_.path() / "model.yaml")
        << "model_type: qwen3\nvocab_size: 256\nhidden_size: 32\nintermediate_size: 48\n"
           "num_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\nhead_dim: 16\n"
           "max_position_embeddings: 64\nrms_norm_eps: 1.0e-6\nrope_theta: 10000.0\n"
           "tie_word_embeddings: true\ninitializer_range: 0.05\n";
    std::ofstream(folder_.path() / "hosts") << "# two\nfakeone slots=1\nfaketwo\n";
  }

  // Runs the program in the folder; its words are in Words() afterwards.
  int Hearth(const std::string& arguments) {
    const std::string command = "cd '" + folder_.path().string() + "' && " + HEARTH_BINARY + " " +
                                arguments + " > words 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string Read(const std::string& name) const {
    std::ifstream in(folder_.path() / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  std::string Train(const std::string& out, const std::string& parent = "") const {
    std::ofstream(folder_.path() / (out + ".yaml"))
        << "output_dir: " << parent + out
        << "\nmodel: {name_or_path: model.yaml}\ndata: {datasets: [{path: data.hearth}], "
           "sequence_len: 24}\ntraining: {max_steps: 6, global_batch_size: 4}\n"
           "logging: {report_to: [jsonl]}\n";
    return "train " + out + ".yaml";
  }

  // The losses and norms of the log, as printed.
  std::string Numbers(const std::string& out) const {
    std::istringstream lines(Read(out + "/log.jsonl"));
    std::string numbers;
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      const std::regex wanted("\"step\":[0-9]+,\"train/loss\":[^,]+,\"train/grad_norm\":[^,}]+");
      if (std::regex_search(line, match, wanted)) numbers += match.str() + "\n";
    }
    return numbers;
  }

  TemporaryFolder folder_;
};

TEST_F(TrainingOnHosts, EqualsTheSameRanksOnOneHost) {
  ASSERT_EQ(Hearth(Train("local") + " -n 2"), 0) << Read("words");
  const FakeHosts hosts(folder_.path(), {"fakeone", "faketwo"});
  setenv("OMPI_MCA_plm_rsh_agent", hosts.agent().c_str(), 1);
  EXPECT_EQ(Hearth(Train("remote") + " --hostfile hosts"), 0) << Read("words");
  unsetenv("OMPI_MCA_plm_rsh_agent");
  const std::string numbers = Numbers("local");
  EXPECT_EQ(std::count(numbers.begin(), numbers.end(), '\n'), 6) << Read("local/log.jsonl");
  EXPECT_EQ(Numbers("remote"), numbers);
}

// Each host's own folder takes the place of the output folder: the first host alone writes.
TEST_F(TrainingOnHosts, OutputFoldersNeedNotBeShared) {
  ASSERT_EQ(Hearth(Train("local") + " -n 2"), 0) << Read("words");
  const FakeHosts hosts(folder_.path(), {"fakeone", "faketwo"});
  setenv("OMPI_MCA_plm_rsh_agent", hosts.agent().c_str(), 1);
  EXPECT_EQ(Hearth(Train("own", "jobs/") + " --hostfile hosts"), 0) << Read("words");
  unsetenv("OMPI_MCA_plm_rsh_agent");
  EXPECT_EQ(Numbers("host-fakeone/own"), Numbers("local")) << Read("words");
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "host-fakeone/own/checkpoint-6"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "host-faketwo/own/log.jsonl"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "host-faketwo/own/checkpoint-6"));
}

TEST_F(TrainingOnHosts, AHostThatCannotBeReachedIsNoLostRank) {
  setenv("OMPI_MCA_plm_rsh_agent", "/bin/false", 1);
  EXPECT_EQ(Hearth(Train("remote") + " --hostfile hosts"), 1) << Read("words");
  unsetenv("OMPI_MCA_plm_rsh_agent");
  EXPECT_TRUE(Contains(Read("words"), "daemon could not be started on a host")) << Read("words");
  EXPECT_FALSE(Contains(Read("words"), "restarts")) << Read("words");
}

TEST_F(TrainingOnHosts, MoreRanksThanSlotsAreRefused) {
  EXPECT_EQ(Hearth(Train("remote") + " --hostfile hosts -n 3"), 2);
  EXPECT_EQ(Read("words"),
            "hosts: error: 3 ranks, but slots for 2; raise slots=, or start fewer "
            "ranks (-n)\n");
}

}  // namespace
}  // namespace hearth::test
