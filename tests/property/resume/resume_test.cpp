// A run that was interrupted ends as the one that was not.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Keys = std::vector<std::pair<std::string, std::string>>;

// Three epochs and a bit, two files: 248 samples, 8 in a step.
TrainingRunOptions Options(const Keys& keys, int ranks) {
  TrainingRunOptions options{.ranks = ranks, .keys = keys, .steps = 12, .files = 2};
  options.keys.emplace_back("optimizer", "learning_rate: 0.01");
  return options;
}

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// Master weights and moments of all ranks at a step, to the last byte.
std::map<std::string, std::string> StateFiles(const std::filesystem::path& folder, int64_t step) {
  std::map<std::string, std::string> files;
  const std::filesystem::path checkpoint = folder / "out" / ("checkpoint-" + std::to_string(step));
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    if (entry.path().extension() == ".safetensors") {
      files[entry.path().filename().string()] = FileText(entry.path());
    }
  }
  EXPECT_FALSE(files.empty()) << checkpoint;
  return files;
}

void ExpectSameBits(const TrainingRunResult& a, const TrainingRunResult& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.grad_norms, b.grad_norms);
  EXPECT_EQ(a.eval_losses, b.eval_losses);
  EXPECT_EQ(a.weights, b.weights);
}

// Runs to the end in pieces of so many steps and compares with one go.
void ExpectResumes(TrainingRunOptions options, const std::vector<int64_t>& stops) {
  const TemporaryFolder whole_folder, pieces_folder;
  options.folder = whole_folder.path();
  const TrainingRunResult whole = TrainInProcess(options);
  ASSERT_EQ(std::ssize(whole.losses), options.steps);
  options.folder = pieces_folder.path();
  int64_t done = 0;
  for (int64_t stop : stops) {
    options.stop_after = stop;
    done += stop;
    ASSERT_EQ(TrainInProcess(options).steps, done);
  }
  options.stop_after = -1;
  const TrainingRunResult pieces = TrainInProcess(options);
  EXPECT_EQ(pieces.steps, options.steps);
  ExpectSameBits(pieces, whole);
  EXPECT_EQ(StateFiles(pieces_folder.path(), options.steps),
            StateFiles(whole_folder.path(), options.steps));
}

class Resume : public testing::TestWithParam<std::string> {
 protected:
  Keys With(const std::string& section = "", const std::string& line = "") const {
    Keys keys = {{"precision", "compute_dtype: " + GetParam()}};
    if (!section.empty()) keys.emplace_back(section, line);
    return keys;
  }
};

TEST_P(Resume, OneRank) { ExpectResumes(Options(With(), 1), {1, 4}); }

TEST_P(Resume, HostState) {
  ExpectResumes(Options(With("memory", "offload: {optimizer: host}"), 1), {5});
}

TEST_P(Resume, TwoRanksInStages) {
  ExpectResumes(Options(With("parallel", "zero_stage: 0"), 2), {5});
  ExpectResumes(Options(With("parallel", "zero_stage: 1"), 2), {5});
}

TEST_P(Resume, StochasticMasterAndFp32Moments) {
  Keys keys = With("optimizer", "master_dtype: bf16_stochastic");
  keys.emplace_back("optimizer", "m_dtype: fp32");
  ExpectResumes(Options(keys, 2), {3, 3});
}

INSTANTIATE_TEST_SUITE_P(Precision, Resume, testing::Values("fp32", "bf16", "fp8"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hearth::test
