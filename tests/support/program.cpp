#include "tests/support/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace hearth::test {

namespace {

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

int OpenStream(const std::filesystem::path& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) throw std::system_error(errno, std::generic_category(), path.string());
  return file;
}

}  // namespace

void Workplace::Write(const std::string& name, const std::string& text) const {
  std::ofstream out(folder() / name, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + (folder() / name).string());
}

std::string Workplace::Read(const std::string& name) const { return ReadText(folder() / name); }

std::string Workplace::Errors() const { return ReadText(streams_.path() / "errors"); }

bool Workplace::Exists(const std::string& name) const {
  return std::filesystem::exists(folder() / name);
}

std::vector<std::string> Workplace::Content() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder())) {
    names.push_back(std::filesystem::relative(entry.path(), folder()).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

pid_t Workplace::Start(const std::vector<std::string>& arguments) const {
  std::vector<char*> pointers = {const_cast<char*>(HEARTH_BINARY)};
  for (const std::string& a : arguments) pointers.push_back(const_cast<char*>(a.c_str()));
  pointers.push_back(nullptr);
  const int output = OpenStream(streams_.path() / "output");
  const int errors = OpenStream(streams_.path() / "errors");
  const pid_t program = fork();
  if (program == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    setpgid(0, 0);
    if (chdir(folder().c_str()) != 0) {
      perror(folder().c_str());
      _exit(126);
    }
    execv(pointers[0], pointers.data());
    perror(pointers[0]);
    _exit(127);
  }
  close(output);
  close(errors);
  return program;
}

int Workplace::Await(pid_t program) {
  int status = 0;
  waitpid(program, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

ProgramResult Workplace::Run(const std::vector<std::string>& arguments) const {
  const pid_t program = Start(arguments);
  ProgramResult result;
  result.exit_code = Await(program);
  result.output = ReadText(streams_.path() / "output");
  result.errors = ReadText(streams_.path() / "errors");
  return result;
}

void WriteTinyRun(const Workplace& workplace, int steps) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("line {} of a text about nothing\n", i % 37);
  workplace.Write("text.txt", text);
  const ProgramResult prepared =
      workplace.Run({"prepare", "--input", "text.txt", "--output", "tokens.hearth"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.errors;
  workplace.Write(
      "run.yaml",
      fmt::format("model: {{name_or_path: {}/configs/models/tiny.yaml}}\n"
                  "data:\n"
                  "  datasets: [{{path: tokens.hearth}}]\n"
                  "  sequence_len: 32\n"
                  "training: {{max_steps: {}, global_batch_size: 4, micro_batch_size: 2}}\n"
                  "precision: {{compute_dtype: fp32}}\n"
                  "lr_scheduler: {{warmup_steps: 1, warmup_ratio: null}}\n",
                  HEARTH_SOURCE_DIR, steps));
}

}  // namespace hearth::test
