// Runs on several hosts, made of network namespaces by cluster/lab.sh: networks, folders and
// processes of their own.
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

#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

constexpr int kNotHere = 77;  // lab.sh's exit code for what the machine does not allow

class LabTest : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("OMPI_MCA_plm");  // a container's, where there is no ssh
    const std::string code = std::to_string(Lab("--hosts 2", "true"));
    if (code == std::to_string(kNotHere)) GTEST_SKIP() << Read("words");
    ASSERT_EQ(code, "0") << Read("words");
    Write("text", [] {
      std::string text;
      for (int i = 0; i < 3000; ++i) {
        text += std::to_string(i * i) + " is the square of " + std::to_string(i) + ".\n";
      }
      return text;
    }());
    Write("model.yaml",
          "model_type: qwen3\nvocab_size: 256\nhidden_size: 32\nintermediate_size: 48\n"
          "num_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\nhead_dim: 16\n"
          "max_position_embeddings: 64\nrms_norm_eps: 1.0e-6\nrope_theta: 10000.0\n"
          "tie_word_embeddings: true\ninitializer_range: 0.05\n");
    Write("hosts", "box1 slots=1\nbox2 slots=1\n");
    ASSERT_EQ(
        Shell("'" HEARTH_BINARY "' prepare --input text --output data.hearth --tokenizer byte"), 0)
        << Read("words");
    for (const char* host : {"box1", "box2"}) {
      const std::filesystem::path work = folder_.path() / host / "work";
      for (const char* name : {"model.yaml", "data.hearth", "hosts"}) {
        std::filesystem::copy_file(folder_.path() / name, work / name);
      }
      std::filesystem::copy_file(HEARTH_BINARY, work / "hearth");
    }
    std::filesystem::create_directory(folder_.path() / "shared");
  }

  // Runs a command in the folder; its words are in the file `words` afterwards.
  int Shell(const std::string& command) const {
    const std::string whole =
        "cd '" + folder_.path().string() + "' && { " + command + "; } >words 2>&1 </dev/null";
    const int status = std::system(whole.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  // Runs a command on box1 of a lab of these hosts, a minute at most.
  int Lab(const std::string& options, const std::string& command) const {
    return Shell("timeout 60 '" HEARTH_SOURCE_DIR "/cluster/lab.sh' . " + options + " -- sh -c '" +
                 command + "'");
  }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.path() / name) << text;
  }

  std::string Read(const std::string& name) const {
    std::ifstream in(folder_.path() / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  // A run's file in box1's folder, where rank 0 reads it. Its output goes to what hosts share.
  std::string Train(const std::string& out, const std::string& more = "") const {
    Write("box1/work/" + out + ".yaml",
          "output_dir: " + (folder_.path() / "shared" / out).string() +
              "\nmodel: {name_or_path: model.yaml}\ndata: {datasets: [{path: data.hearth}], "
              "sequence_len: 24}\ntraining: {max_steps: 6, global_batch_size: 4}\n"
              "resilience: {max_restarts: 0}\nlogging: {report_to: [jsonl]}\n" +
              more);
    return "./hearth train " + out + ".yaml ";
  }

  // The losses and norms of the log, as printed.
  std::string Numbers(const std::string& out) const {
    std::istringstream lines(Read("shared/" + out + "/log.jsonl"));
    std::string numbers;
    const std::regex wanted("\"step\":[0-9]+,\"train/loss\":[^,]+,\"train/grad_norm\":[^,}]+");
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      if (std::regex_search(line, match, wanted)) numbers += match.str() + "\n";
    }
    return numbers;
  }

  TemporaryFolder folder_;
};

TEST_F(LabTest, TwoHostsGiveTheBitsOfTwoRanksOnOne) {
  ASSERT_EQ(Lab("", Train("local") + "-n 2"), 0) << Read("words");
  ASSERT_EQ(Lab("--rate 1gbit", Train("remote") + "--hostfile hosts"), 0) << Read("words");
  const std::string numbers = Numbers("local");
  EXPECT_EQ(std::count(numbers.begin(), numbers.end(), '\n'), 6) << Read("shared/local/log.jsonl");
  EXPECT_EQ(Numbers("remote"), numbers);
}

// Each host has a device docker0 with one and the same address, which leads nowhere.
TEST_F(LabTest, TheInterfaceIsTheOneToUse) {
  const std::string run = Train("named", "comm: {interface: eth0}\n");
  ASSERT_EQ(Lab("--decoy", run + "--hostfile hosts"), 0) << Read("words");
  const std::string numbers = Numbers("named");
  EXPECT_EQ(std::count(numbers.begin(), numbers.end(), '\n'), 6) << Read("words");
  EXPECT_EQ(Lab("", "mpirun --allow-run-as-root --hostfile hosts ./hearth rank named.yaml"), 2);
  EXPECT_NE(Read("words").find("comm.interface: mpirun was not told of it"), std::string::npos)
      << Read("words");
  EXPECT_EQ(Lab("", Train("none", "comm: {interface: eth9}\n") + "--hostfile hosts"), 2);
  EXPECT_NE(Read("words").find("this host has no network device eth9, but eth0, lo; name one"),
            std::string::npos)
      << Read("words");
}

}  // namespace
}  // namespace hearth::test
