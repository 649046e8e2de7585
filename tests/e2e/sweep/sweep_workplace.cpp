#include "tests/e2e/sweep/sweep_workplace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "launcher/process.h"

namespace hearth::test {

namespace {

constexpr const char* kModel =
    "model_type: qwen3\nvocab_size: 256\nhidden_size: 32\nintermediate_size: 48\n"
    "num_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\nhead_dim: 16\n"
    "max_position_embeddings: 64\nrms_norm_eps: 1.0e-6\nrope_theta: 10000.0\n"
    "tie_word_embeddings: true\ninitializer_range: 0.05\n";

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

std::vector<int64_t> TrainedSteps(const std::string& log) {
  std::vector<int64_t> steps;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string line = log.substr(at, end - at);
    if (line.find("\"train/loss\"") != std::string::npos) {
      steps.push_back(std::stoll(line.substr(line.find(':') + 1)));
    }
    at = end + 1;
  }
  return steps;
}

int64_t Count(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

SweepWorkplace::SweepWorkplace(int64_t steps, int64_t save_steps) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += fmt::format("line {} of a text about nothing\n", i % 37);
  Write("text.txt", text);
  Write("model.yaml", kModel);
  Write("base.yaml", fmt::format("model: {{name_or_path: {0}/model.yaml}}\n"
                                 "data:\n"
                                 "  datasets: [{{path: {0}/tokens.hearth}}]\n"
                                 "  eval_datasets: [{{path: {0}/tokens.hearth}}]\n"
                                 "  sequence_len: 32\n"
                                 "training: {{max_steps: {1}, global_batch_size: 4}}\n"
                                 "precision: {{compute_dtype: fp32}}\n"
                                 "lr_scheduler: {{warmup_steps: 1}}\n"
                                 "eval: {{eval_steps: 10, eval_max_batches: 1}}\n"
                                 "logging: {{report_to: [jsonl]}}\n"
                                 "checkpoint: {{save_steps: {2}, export_hf: none}}\n",
                                 folder_.path().string(), steps, save_steps));
  const std::string command =
      fmt::format("{} prepare --input {}/text.txt --output {}/tokens.hearth >/dev/null",
                  HEARTH_BINARY, folder_.path().string(), folder_.path().string());
  EXPECT_EQ(system(command.c_str()), 0);
}

SweepWorkplace::~SweepWorkplace() {
  if (program_ > 0) {
    kill(program_, SIGKILL);
    waitpid(program_, nullptr, 0);
  }
  AwaitNothingLeft();
}

void SweepWorkplace::WriteSweep(const std::string& text) const {
  Write("sweep.yaml", fmt::format("base: {0}/base.yaml\noutput_dir: {0}/out\n{1}",
                                  folder_.path().string(), text));
}

void SweepWorkplace::Write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

std::string SweepWorkplace::Read(const std::string& name) const { return ReadText(path(name)); }

std::vector<std::string> SweepWorkplace::Content() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
    names.push_back(entry.path().lexically_relative(folder_.path()).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void SweepWorkplace::Start(const std::vector<std::string>& options) {
  const std::string file = path("sweep.yaml").string();
  std::vector<char*> pointers = {const_cast<char*>(HEARTH_BINARY), const_cast<char*>("sweep"),
                                 const_cast<char*>(file.c_str())};
  for (const std::string& option : options) pointers.push_back(const_cast<char*>(option.c_str()));
  pointers.push_back(nullptr);
  const std::string output = path("terminal").string();
  program_ = fork();
  if (program_ != 0) return;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int terminal = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(terminal, STDOUT_FILENO);
  dup2(terminal, STDERR_FILENO);
  execv(pointers[0], pointers.data());
  _exit(127);
}

void SweepWorkplace::Signal(int number) const { kill(program_, number); }

SweepResult SweepWorkplace::Await() {
  int status = 0;
  const bool ended = Eventually([&] { return waitpid(program_, &status, WNOHANG) == program_; });
  EXPECT_TRUE(ended) << "the sweep does not end:\n" << Output();
  if (!ended) return {};
  program_ = -1;
  return {.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
          .output = Output()};
}

SweepResult SweepWorkplace::Run(const std::vector<std::string>& options) {
  Start(options);
  return Await();
}

std::string SweepWorkplace::Output() const { return Read("terminal"); }

std::vector<RunProgress> SweepWorkplace::Runs() const {
  std::vector<RunProgress> runs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path("out"), error)) {
    if (!entry.is_directory(error)) continue;
    const std::vector<int64_t> steps = TrainedSteps(ReadText(entry.path() / "log.jsonl"));
    runs.push_back({.id = entry.path().filename(),
                    .last_step = steps.empty() ? 0 : steps.back(),
                    .ended = std::filesystem::exists(entry.path() / "outcome.json")});
  }
  return runs;
}

int64_t SweepWorkplace::CountEnded() const {
  const std::vector<RunProgress> runs = Runs();
  return std::count_if(runs.begin(), runs.end(), [](const RunProgress& run) { return run.ended; });
}

void SweepWorkplace::Pause() { usleep(5'000); }

int SweepWorkplace::CountProcesses() const {
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (!IsRunning(std::stoi(name))) continue;
    count += ReadText(entry.path() / "cmdline").find(folder_.path().string()) != std::string::npos;
  }
  return count;
}

bool SweepWorkplace::AwaitNothingLeft() const {
  return Eventually([&] { return CountProcesses() == 0; });
}

}  // namespace hearth::test
