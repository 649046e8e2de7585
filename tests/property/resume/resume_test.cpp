// A run that was interrupted ends as the one that was not.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/core/error.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Keys = TrainingKeys;

// Two files of 124 samples in an order that mixes them; 8 samples in a step.
TrainingRunOptions Options(const Keys& keys, int ranks) {
  TrainingRunOptions options{.ranks = RanksUnderTest(ranks), .keys = keys, .steps = 12, .files = 2};
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
    Keys keys = PrecisionKeys(GetParam());
    if (!section.empty()) keys.emplace_back(section, line);
    return keys;
  }
};

TEST_P(Resume, OneRank) { ExpectResumes(Options(With(), 1), {1, 4}); }

TEST_P(Resume, HostState) {
  ExpectResumes(Options(With("memory", "offload: {optimizer: host}"), 1), {5});
}

TEST_P(Resume, InGroups) {
  Keys keys = With("training", "micro_batch_size: 1");
  keys.emplace_back("memory", "micro_batches_per_group: 3");
  keys.emplace_back("memory", "offload: {residual: host}");
  ExpectResumes(Options(keys, 1), {2, 3});
}

TEST_P(Resume, TwoRanksInStages) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  ExpectResumes(Options(With("parallel", "zero_stage: 0"), 2), {5});
  ExpectResumes(Options(With("parallel", "zero_stage: 1"), 2), {5});
}

TEST_P(Resume, StochasticMasterAndFp32Moments) {
  Keys keys = With("optimizer", "master_dtype: bf16_stochastic");
  keys.emplace_back("optimizer", "m_dtype: fp32");
  ExpectResumes(Options(keys, 2), {3, 3});
}

TEST_P(Resume, AcrossTheEndOfAnEpoch) {
  TrainingRunOptions options = Options(With(), 1);
  options.files = 1;  // an epoch is 15.5 steps
  options.steps = 18;
  ExpectResumes(options, {15, 1});
}

INSTANTIATE_TEST_SUITE_P(Precision, Resume, testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return test.param; });

Keys Fp32() {
  return {{"precision", "compute_dtype: fp32"},
          {"optimizer", "m_dtype: fp32"},
          {"optimizer", "v_dtype: fp32"}};
}

// The message of the error that starting the run gives.
template <typename Error>
std::string RefusalOf(const TrainingRunOptions& options) {
  try {
    TrainInProcess(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ResumeElsewhere, OtherNumbersOfRanks) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  TrainingRunOptions options = Options(Fp32(), 4);
  const TemporaryFolder whole_folder;
  options.folder = whole_folder.path();
  const TrainingRunResult whole = TrainInProcess(options);
  for (int ranks : {1, 2, 3}) {
    SCOPED_TRACE(ranks);
    const TemporaryFolder folder;
    options.folder = folder.path();
    options.ranks = 4;
    options.stop_after = 6;
    const TrainingRunResult saved = TrainInProcess(options);
    options.ranks = ranks;
    options.stop_after = 0;  // load, and save nothing new
    EXPECT_EQ(TrainInProcess(options).weights, saved.weights);
    options.stop_after = -1;
    const TrainingRunResult resumed = TrainInProcess(options);
    ASSERT_EQ(resumed.losses.size(), whole.losses.size());
    EXPECT_FALSE(!(RelativeDifference(resumed.losses, whole.losses) <= 1e-5));
    EXPECT_FALSE(!(RelativeDifference(resumed.weights, whole.weights) <= 1e-4));
  }
}

TEST(ResumeElsewhere, OtherPlacementAndStage) {
  const TemporaryFolder whole_folder, folder;
  TrainingRunOptions options = Options({}, 2);
  options.folder = whole_folder.path();
  const TrainingRunResult whole = TrainInProcess(options);
  options.folder = folder.path();
  options.stop_after = 5;
  TrainInProcess(options);
  options.keys.emplace_back("parallel", "zero_stage: 0");
  options.keys.emplace_back("memory", "offload: {optimizer: host}");
  options.stop_after = -1;
  ExpectSameBits(TrainInProcess(options), whole);
  EXPECT_EQ(StateFiles(folder.path(), 12), StateFiles(whole_folder.path(), 12));
}

// As after a kill: the last checkpoint is some steps old, and the steps behind it are in the log.
TEST(ResumeElsewhere, AnotherScheduleAfterAKill) {
  std::string tied = SmallModel();
  const std::string untied = "tie_word_embeddings: false";
  tied.replace(tied.find(untied), untied.size(), "tie_word_embeddings: true");
  const Keys vertical = {{"memory", "schedule: vertical"},
                         {"memory", "recompute: [block]"},
                         {"memory", "offload: {residual: host, optimizer: host}"}};
  for (const std::string& model : {SmallModel(), tied}) {
    const TemporaryFolder whole_folder, folder;
    TrainingRunOptions options = Options({{"training", "micro_batch_size: 1"}}, 2);
    options.model = model;
    options.save_steps = 4;
    options.folder = whole_folder.path();
    const TrainingRunResult whole = TrainInProcess(options);
    options.folder = folder.path();
    const size_t common = options.keys.size();
    options.keys.insert(options.keys.end(), vertical.begin(), vertical.end());
    ExpectSameBits(TrainInProcess(options), whole);
    for (const bool goes_on_vertical : {true, false}) {
      SCOPED_TRACE(goes_on_vertical);
      if (!goes_on_vertical) options.keys.resize(common);
      std::filesystem::remove_all(folder.path() / "out" / "checkpoint-12");
      std::filesystem::remove_all(folder.path() / "out" / "checkpoint-8");
      ExpectSameBits(TrainInProcess(options), whole);
      EXPECT_EQ(StateFiles(folder.path(), 12), StateFiles(whole_folder.path(), 12));
    }
  }
}

// Precision may change, but not in silence.
TEST(ResumeElsewhere, AnotherPrecisionIsNamed) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({{"precision", "compute_dtype: fp8"}}, 2);
  options.folder = folder.path();
  const auto go_on_until = [&](int64_t steps) {
    options.stop_after = steps;
    testing::internal::CaptureStderr();
    TrainInProcess(options);
    return testing::internal::GetCapturedStderr();
  };
  go_on_until(2);
  EXPECT_EQ(go_on_until(1).find("warning"), std::string::npos);
  options.keys.emplace_back("precision", "fp8_lm_head: true");
  options.keys.emplace_back("precision", "fp8_recipe: tensorwise_verified");
  const std::string said = go_on_until(1);
  EXPECT_NE(said.find("warning: the run goes on in another precision than that of"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("/checkpoint-3: precision.fp8_lm_head is true, was false; "
                      "precision.fp8_recipe is tensorwise_verified, was tensorwise_current\n"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("warning"), said.rfind("warning")) << said;
  EXPECT_EQ(go_on_until(1).find("warning"), std::string::npos);
}

TEST(ResumeState, AFinishedRunDoesNothing) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({}, 2);
  options.folder = folder.path();
  const TrainingRunResult first = TrainInProcess(options);
  const auto state = StateFiles(folder.path(), 12);
  const std::filesystem::path checkpoint = folder.path() / "out" / "checkpoint-12";
  const auto written = std::filesystem::last_write_time(checkpoint);
  const TrainingRunResult again = TrainInProcess(options);
  EXPECT_EQ(again.log, first.log);
  EXPECT_EQ(again.steps, 12);
  EXPECT_EQ(again.weights, first.weights);
  EXPECT_EQ(StateFiles(folder.path(), 12), state);
  EXPECT_EQ(std::filesystem::last_write_time(checkpoint), written);
}

TEST(ResumeState, SynchronousAndAsynchronousSavesAreEqual) {
  std::map<std::string, std::string> states[2];
  for (int async : {0, 1}) {
    const TemporaryFolder folder;
    TrainingRunOptions options =
        Options({{"checkpoint", async ? "async_save: true" : "async_save: false"},
                 {"checkpoint", "save_total_limit: null"}},
                2);
    options.folder = folder.path();
    options.save_steps = 3;
    TrainInProcess(options);
    for (int64_t step : {3, 6, 9, 12}) {
      for (auto& [name, text] : StateFiles(folder.path(), step)) {
        states[async][std::to_string(step) + name] = std::move(text);
      }
    }
  }
  EXPECT_EQ(states[0].size(), 4u * RanksUnderTest(2));
  EXPECT_EQ(states[0], states[1]);
}

// A finished run of which the newest checkpoints are damaged in every way.
class ResumeDamaged : public testing::Test {
 protected:
  void SetUp() override {
    options_ = Options({}, 1);
    options_.folder = folder_.path();
    options_.save_steps = 4;
    finished_ = TrainInProcess(options_);
  }
  std::filesystem::path Checkpoint(int64_t step) const {
    return folder_.path() / "out" / ("checkpoint-" + std::to_string(step));
  }
  // Damages the last checkpoint: the run redoes the steps after the one before, and no others.
  void ExpectRedone() {
    const TrainingRunResult again = TrainInProcess(options_);
    ExpectSameBits(again, finished_);
    EXPECT_EQ(StateFiles(folder_.path(), 12).size(), 1u);
    const TrainingRunResult third = TrainInProcess(options_);
    EXPECT_EQ(third.log, again.log);
  }

  TemporaryFolder folder_;
  TrainingRunOptions options_;
  TrainingRunResult finished_;
};

TEST_F(ResumeDamaged, AByteOfTheState) {
  const std::filesystem::path file = Checkpoint(12) / "state-rank-00000.safetensors";
  const std::string text = FileText(file);
  for (size_t at : {size_t{0}, size_t{9}, text.size() / 2, text.size() - 1}) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(static_cast<char>(text[at] ^ 0x10));
    stream.close();
    ExpectRedone();
  }
}

TEST_F(ResumeDamaged, MissingAndShortFiles) {
  for (const char* name : {"state-rank-00000.safetensors", "manifest.json", "config.json"}) {
    std::filesystem::remove(Checkpoint(12) / name);
    ExpectRedone();
    std::filesystem::resize_file(Checkpoint(12) / name,
                                 std::filesystem::file_size(Checkpoint(12) / name) - 1);
    ExpectRedone();
  }
}

TEST_F(ResumeDamaged, AnotherStepUnderItsName) {
  std::filesystem::remove_all(Checkpoint(12));
  std::filesystem::copy(Checkpoint(4), Checkpoint(12));
  ExpectRedone();
}

TEST_F(ResumeDamaged, AllOfThem) {
  for (int64_t step : {4, 8, 12}) std::filesystem::remove(Checkpoint(step) / "manifest.json");
  ExpectRedone();
}

TEST(ResumeState, KeepsTheNewest) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({{"checkpoint", "save_total_limit: 2"}}, 2);
  options.folder = folder.path();
  options.save_steps = 3;
  TrainInProcess(options);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "out")) {
    const std::string name = entry.path().filename().string();
    if (name.find("checkpoint") != std::string::npos) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, std::vector<std::string>({"checkpoint-12", "checkpoint-9"}));
}

// Files of this process end at so many bytes, as on a disk that is full.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    previous_ = signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, previous_);
  }

 private:
  rlimit before_{};
  sighandler_t previous_ = SIG_DFL;
};

TEST(ResumeState, AFailedSaveLeavesNothingAndOnlyTheLastOneEndsTheRun) {
  const TemporaryFolder whole_folder, folder;
  TrainingRunOptions options = Options({}, 2);
  options.save_steps = 5;
  options.folder = whole_folder.path();
  const TrainingRunResult whole = TrainInProcess(options);
  options.folder = folder.path();
  for (const char* async : {"async_save: true", "async_save: false"}) {
    options.keys.emplace_back("checkpoint", async);
    options.stop_after = 5;
    TrainInProcess(options);
    options.stop_after = -1;
    const auto state = StateFiles(folder.path(), 5);
    {
      const FileLimit limit(100'000);  // the log and the manifest fit, the state does not
      EXPECT_NE(RefusalOf<IoError>(options).find("writing failed"), std::string::npos);
    }
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "out")) {
      const std::string name = entry.path().filename().string();
      if (name.find("checkpoint") != std::string::npos) names.push_back(name);
    }
    EXPECT_EQ(names, std::vector<std::string>({"checkpoint-5"}));
    EXPECT_EQ(StateFiles(folder.path(), 5), state);
    ExpectSameBits(TrainInProcess(options), whole);
    EXPECT_EQ(StateFiles(folder.path(), 12), StateFiles(whole_folder.path(), 12));
    std::filesystem::remove_all(folder.path() / "out");
    options.keys.pop_back();
  }
}

TEST(ResumeRefuses, WhatWouldChangeTheRun) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({{"training", "micro_batch_size: 4"}}, 1);
  options.folder = folder.path();
  options.stop_after = 2;
  TrainInProcess(options);
  const auto refusal = [&](const std::string& section, const std::string& line) {
    TrainingRunOptions changed = options;
    if (section == "training") changed.keys.erase(changed.keys.begin());
    changed.keys.emplace_back(section, line);
    return RefusalOf<ConfigError>(changed);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"training", "micro_batch_size: 2"},
      {"training", "global_batch_size: 4"},
      {"training", "gradient_accumulation_steps: 3"},
      {"memory", "head_slab_tokens: 16"},
      {"parallel", "reduction_order: rank_then_micro"},
      {"data", "data_seed: 1"},
      {"optimizer", "m_dtype: fp32"},
      {"optimizer", "master_dtype: bf16_stochastic"},
      {"checkpoint", "resume: none"},
  };
  for (const auto& [section, line] : cases) {
    const std::string key = line.substr(0, line.find(':'));
    const std::string message = refusal(section, line);
    EXPECT_NE(message.find(key), std::string::npos) << line << ": " << message;
  }
  // What is left open stays as it was.
  options.keys.erase(options.keys.begin());
  options.stop_after = 1;
  EXPECT_EQ(TrainInProcess(options).steps, 3);
  const std::string plan = FileText(folder.path() / "out" / "plan.yaml");
  EXPECT_NE(plan.find("micro_batch_size: 4\n"), std::string::npos) << plan;
}

TEST(ResumeRefuses, OtherModelsAndOtherData) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({}, 2);
  options.folder = folder.path();
  options.stop_after = 1;
  TrainInProcess(options);
  const std::string model = SmallModel();
  std::ofstream(folder.path() / "model.yaml")
      << model.substr(0, model.find("hidden_size")) << "hidden_size: 64"
      << model.substr(model.find("\nintermediate"));
  EXPECT_NE(RefusalOf<ConfigError>(options).find("another model"), std::string::npos);
  std::ofstream(folder.path() / "model.yaml") << model;
  std::filesystem::copy_file(folder.path() / "eval.hearth", folder.path() / "train1.hearth",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(RefusalOf<ConfigError>(options).find("the data changed"), std::string::npos);
}

TEST(ResumeNamed, AFolderOutsideAndInside) {
  const TemporaryFolder source, target;
  TrainingRunOptions options = Options({}, 1);
  options.folder = source.path();
  options.save_steps = 5;
  const TrainingRunResult whole = TrainInProcess(options);
  const auto named = [&](const std::filesystem::path& folder, int64_t step) {
    TrainingRunOptions resumed = options;
    resumed.folder = folder;
    resumed.keys.emplace_back(
        "checkpoint",
        "resume: " + (source.path() / "out" / "checkpoint-").string() + std::to_string(step));
    return resumed;
  };
  const TrainingRunResult resumed = TrainInProcess(named(target.path(), 5));
  EXPECT_EQ(resumed.losses, std::vector<double>(whole.losses.begin() + 5, whole.losses.end()));
  EXPECT_EQ(resumed.weights, whole.weights);
  EXPECT_EQ(StateFiles(target.path(), 12), StateFiles(source.path(), 12));
  // It would leave later checkpoints behind as its own.
  EXPECT_NE(RefusalOf<ConfigError>(named(source.path(), 5)), "");
  EXPECT_EQ(TrainInProcess(named(source.path(), 12)).log, whole.log);
  EXPECT_NE(RefusalOf<IoError>(named(target.path(), 6)), "");
}

}  // namespace
}  // namespace hearth::test
