// A run that is killed again and again ends as the one that was not: every byte of the state and
// the export, every number of the log.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "kernels/core/error.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/data/hearth_writer.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{300};  // for one start to get somewhere

constexpr const char* kModel = R"(model_type: qwen3
vocab_size: 90
hidden_size: 48
intermediate_size: 112
num_hidden_layers: 2
num_attention_heads: 4
num_key_value_heads: 2
head_dim: 16
max_position_embeddings: 64
rms_norm_eps: 1.0e-6
rope_theta: 10000.0
tie_word_embeddings: true
initializer_range: 0.05
)";

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

class KilledRun {
 public:
  // `more`: further sections of the configuration.
  KilledRun(const std::filesystem::path& data, int64_t steps, const std::string& more = "")
      : steps_(steps) {
    std::ofstream(folder_.path() / "model.yaml") << kModel;
    std::ofstream(folder_.path() / "run.yaml")
        << "output_dir: " << out().string()
        << "\nmodel: {name_or_path: " << (folder_.path() / "model.yaml").string()
        << "}\ndata: {datasets: [{path: " << data.string()
        << "}], eval_datasets: [{path: " << data.string()
        << "}], sequence_len: 24}\ntraining: {max_steps: " << steps
        << ", global_batch_size: 8}\noptimizer: {learning_rate: 0.01}\n"
        << "eval: {eval_steps: 25, eval_max_batches: 1}\n"
        << "checkpoint: {save_steps: 4, save_interval_minutes: 0, save_total_limit: 2}\n"
        << "logging: {report_to: [jsonl]}\n"
        << more;
  }
  ~KilledRun() { Kill(); }
  KilledRun(const KilledRun&) = delete;
  KilledRun& operator=(const KilledRun&) = delete;

  std::filesystem::path out() const { return folder_.path() / "out"; }

  void Start() {
    const std::string file = (folder_.path() / "run.yaml").string();
    const std::string log = (folder_.path() / "terminal").string();
    launcher_ = fork();
    ASSERT_GE(launcher_, 0);
    if (launcher_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int terminal = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    dup2(terminal, STDOUT_FILENO);
    dup2(terminal, STDERR_FILENO);
    execl(HEARTH_BINARY, HEARTH_BINARY, "train", file.c_str(), "-n", "2", nullptr);
    _exit(127);
  }

  // Kills the launcher; its ranks have to follow by themselves.
  void Kill() {
    if (launcher_ <= 0) return;
    kill(launcher_, SIGKILL);
    waitpid(launcher_, nullptr, 0);
    launcher_ = -1;
  }

  // The exit code, or -1 while it runs.
  int Poll() {
    int status = 0;
    if (launcher_ <= 0 || waitpid(launcher_, &status, WNOHANG) == 0) return -1;
    launcher_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  }

  int Wait() {
    const auto end = Clock::now() + kPatience;
    while (Clock::now() < end) {
      const int code = Poll();
      if (code >= 0) return code;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }

  int64_t LastLoggedStep() const {
    const std::string log = FileText(out() / "log.jsonl");
    const size_t at = log.rfind("{\"step\":");
    return at == std::string::npos ? -1 : std::atoll(log.c_str() + at + 8);
  }

  // Each line's step and what does not depend on the clock.
  std::vector<std::string> Log() const {
    std::vector<std::string> lines;
    std::ifstream in(out() / "log.jsonl");
    for (std::string line; std::getline(in, line);) {
      std::string kept = line.substr(0, line.find(','));
      for (const char* name :
           {"train/loss", "train/grad_norm", "train/learning_rate", "eval/loss"}) {
        const size_t at = line.find("\"" + std::string(name) + "\":");
        if (at != std::string::npos) kept += line.substr(at, line.find_first_of(",}", at) - at);
      }
      lines.push_back(kept);
    }
    return lines;
  }

  // Training state, manifest aside (it names the run's own paths), and the export.
  std::map<std::string, std::string> Results() const {
    std::map<std::string, std::string> results;
    const auto checkpoint = out() / ("checkpoint-" + std::to_string(steps_));
    for (const auto& folder : {checkpoint, out() / "hf"}) {
      EXPECT_TRUE(std::filesystem::is_directory(folder)) << folder << Terminal();
      if (!std::filesystem::is_directory(folder)) continue;
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().filename() == "manifest.json") continue;
        results[entry.path().lexically_relative(out())] = FileText(entry.path());
      }
    }
    return results;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(out())) {
      // What was said of the kills is no result.
      if (entry.path().filename() == "messages.txt") continue;
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string Terminal() const { return "\n" + FileText(folder_.path() / "terminal"); }

 private:
  TemporaryFolder folder_;
  const int64_t steps_;
  pid_t launcher_ = -1;
};

void WriteData(const std::filesystem::path& file) {
  HearthWriter writer({.path = file.string(), .vocab_size = 90});
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    const auto token = static_cast<int32_t>((i * 7 + static_cast<int>(random() % 5)) % 90);
    writer.Append({&token, 1});
  }
  writer.Finish();
}

// Lets the run get on by a few steps, or hardly at all, and kills it anywhere in between. False
// when it came to its end before.
bool RunAndKill(KilledRun& run, std::mt19937& random) {
  run.Start();
  const int64_t goal = run.LastLoggedStep() + static_cast<int64_t>(random() % 7);
  const auto early = std::chrono::milliseconds(random() % 1200);
  const bool by_time = random() % 3 == 0;
  const auto begin = Clock::now();
  while (true) {
    if (run.Poll() >= 0) return false;
    const auto elapsed = Clock::now() - begin;
    if (by_time ? elapsed > early : run.LastLoggedStep() > goal) break;
    EXPECT_LT(elapsed, kPatience) << run.Terminal();
    if (elapsed > kPatience) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
  run.Kill();
  return true;
}

void ExpectSurvives(int kills, int64_t steps, unsigned seed) {
  const TemporaryFolder data;
  WriteData(data.path() / "data.hearth");
  KilledRun whole(data.path() / "data.hearth", steps);
  whole.Start();
  ASSERT_EQ(whole.Wait(), 0) << whole.Terminal();

  std::mt19937 random(seed);
  for (int landed = 0; landed < kills;) {
    KilledRun killed(data.path() / "data.hearth", steps);
    // The folder of a finished run is met by a few kills too.
    for (int ended = 0; landed < kills && ended < 3;) {
      ++(RunAndKill(killed, random) ? landed : ended);
    }
    killed.Start();
    ASSERT_EQ(killed.Wait(), 0) << killed.Terminal();
    EXPECT_EQ(killed.Log(), whole.Log()) << killed.Terminal();
    EXPECT_EQ(killed.Results(), whole.Results());
    EXPECT_EQ(killed.Names(), whole.Names());
    if (testing::Test::HasFailure()) return;
  }
}

// Relative names and bytes.
std::map<std::string, std::string> FolderFiles(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename().string()] = FileText(entry.path());
  }
  return files;
}

TEST(Kill, ACheckpointExportsAsTheRunDid) {
  const TemporaryFolder data;
  WriteData(data.path() / "data.hearth");
  KilledRun run(data.path() / "data.hearth", 3);
  run.Start();
  ASSERT_EQ(run.Wait(), 0) << run.Terminal();
  ExportCheckpoint(run.out() / "checkpoint-3", data.path() / "hf");
  EXPECT_EQ(FolderFiles(data.path() / "hf"), FolderFiles(run.out() / "hf"));
  const std::string text = Inspect(run.out() / "checkpoint-3");
  for (const char* part : {"step                3\n", "blocks.1.qkv_weight", "data.hearth",
                           "state-rank-00001.safetensors"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in\n" << text;
  }
  EXPECT_NE(Inspect(run.out()).find("checkpoint-3: readable"), std::string::npos);
  EXPECT_NE(Inspect(data.path() / "data.hearth").find("3000 tokens"), std::string::npos);
  EXPECT_NE(Inspect(data.path() / "hf").find("model.embed_tokens.weight"), std::string::npos);
  EXPECT_THROW(ExportCheckpoint(run.out(), data.path() / "x"), ConfigError);
  EXPECT_THROW(Inspect(data.path() / "missing"), ConfigError);
}

TEST(Kill, TwentyTimes) { ExpectSurvives(20, 120, 1); }

// While an FP8 run turns to bf16: from its last step in FP8, over the checkpoint between the
// stages, into its first steps in bf16.
TEST(Kill, InTheChangeToBf16) {
  constexpr int64_t kSteps = 16, kInFp8 = 10;
  const std::string finish = "precision: {bf16_finish_ratio: 0.375}\n";
  const TemporaryFolder data;
  WriteData(data.path() / "data.hearth");
  KilledRun whole(data.path() / "data.hearth", kSteps, finish);
  whole.Start();
  ASSERT_EQ(whole.Wait(), 0) << whole.Terminal();
  for (const int milliseconds : {0, 5, 15, 40, 100}) {
    SCOPED_TRACE(milliseconds);
    KilledRun killed(data.path() / "data.hearth", kSteps, finish);
    killed.Start();
    const auto begin = Clock::now();
    while (killed.LastLoggedStep() < kInFp8 && Clock::now() - begin < kPatience) {
      ASSERT_EQ(killed.Poll(), -1) << killed.Terminal();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    killed.Kill();
    killed.Start();
    ASSERT_EQ(killed.Wait(), 0) << killed.Terminal();
    EXPECT_EQ(killed.Log(), whole.Log()) << killed.Terminal();
    EXPECT_EQ(killed.Results(), whole.Results());
    EXPECT_EQ(killed.Names(), whole.Names());
  }
}

// A thousand in all.
class LongKill : public testing::TestWithParam<unsigned> {};
TEST_P(LongKill, FiftyTimes) { ExpectSurvives(50, 200, GetParam()); }
INSTANTIATE_TEST_SUITE_P(Seeds, LongKill, testing::Range(0u, 20u));

}  // namespace
}  // namespace hearth::test
