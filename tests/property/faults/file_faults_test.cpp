// Whatever happens to the disk or the process while a file is written: the log keeps its records,
// and shards and exports appear whole or not at all.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "kernels/core/error.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/data/token_file.h"
#include "runtime/model/hf_export.h"
#include "runtime/model/weight_source.h"
#include "runtime/telemetry/json_lines_log.h"
#include "tests/property/faults/faulty_calls.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

using Action = std::function<void()>;

constexpr Fault kErrors[] = {Fault::kNoSpace, Fault::kIoError, Fault::kShort, Fault::kInterrupted};

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// Also spares the action the waiting for a disk.
int64_t CountCalls(const Action& action) {
  const FaultWindow window(Fault::kNone, 0);
  action();
  return window.calls();
}

// Runs the action with the fault in one call after the other. Nothing but IoError may come out, and
// none where the fault is no error. `check(reported)` follows each.
void FailEveryCall(const Action& prepare, const Action& action,
                   const std::function<void(bool reported)>& check) {
  CountCalls(prepare);
  const int64_t calls = CountCalls(action);
  ASSERT_GT(calls, 0);
  check(false);
  for (const Fault fault : kErrors) {
    for (int64_t at = 0; at < calls; ++at) {
      SCOPED_TRACE(testing::Message() << Name(fault) << " in call " << at);
      CountCalls(prepare);
      bool reported = false;
      {
        const FaultWindow window(fault, at);
        try {
          action();
        } catch (const IoError& error) {
          reported = true;
          EXPECT_TRUE(fault == Fault::kNoSpace || fault == Fault::kIoError) << error.what();
        }
      }
      check(reported);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Runs the action in a process that dies in one call after the other.
void DieInEveryCall(const Action& prepare, const Action& action, const Action& check) {
  CountCalls(prepare);
  const int64_t calls = CountCalls(action);
  for (int64_t at = 0; at < calls; ++at) {
    SCOPED_TRACE(testing::Message() << "killed in call " << at);
    CountCalls(prepare);
    const pid_t process = fork();
    if (process == 0) {
      const FaultWindow window(Fault::kKill, at);
      action();
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(process, &status, 0), process);
    EXPECT_TRUE(WIFSIGNALED(status));
    check();
    if (testing::Test::HasFailure()) return;
  }
}

class LogFaults : public testing::Test {
 protected:
  std::filesystem::path log() const { return folder_.path() / "log.jsonl"; }
  static StepRecord Record(int64_t step) {
    StepRecord record{.step = step, .values = {}};
    record.Set("train/loss", 1.0 / static_cast<double>(step + 1));
    return record;
  }
  std::vector<int64_t> Steps() const {
    std::vector<int64_t> steps;
    ReadJsonLines(log(), [&](const StepRecord& record) { steps.push_back(record.step); });
    return steps;
  }
  void Write(int64_t records, const std::string& more = "") const {
    std::ofstream out(log(), std::ios::binary | std::ios::trunc);
    for (int64_t step = 1; step <= records; ++step) out << ToJson(Record(step)) << '\n';
    out << more;
  }

  TemporaryFolder folder_;
};

TEST_F(LogFaults, ARecordIsWrittenWholeOrNotAtAll) {
  for (const Fault fault : kErrors) {
    std::filesystem::remove(log());
    JsonLinesLog writer(log());
    std::vector<int64_t> written;
    for (int64_t step = 1; step <= 12; ++step) {
      const FaultWindow window(step % 3 == 0 ? fault : Fault::kNone, 0);
      try {
        writer.Append(Record(step));
        written.push_back(step);
      } catch (const IoError&) {
        EXPECT_TRUE(fault == Fault::kNoSpace || fault == Fault::kIoError);
      }
      EXPECT_EQ(window.calls() > 0, true);
    }
    EXPECT_EQ(Steps(), written) << Name(fault);
    EXPECT_EQ(written.size(), fault == Fault::kNoSpace || fault == Fault::kIoError ? 8u : 12u);
  }
}

TEST_F(LogFaults, CuttingBackLosesNothing) {
  const std::vector<int64_t> all = {1, 2, 3, 4, 5}, kept = {1, 2, 3};
  const auto prepare = [&] { Write(5, "{\"step\":6,\"torn"); };
  const auto cut = [&] { CutBackTo(log(), 3); };
  FailEveryCall(prepare, cut, [&](bool reported) { EXPECT_EQ(Steps(), reported ? all : kept); });
  DieInEveryCall(prepare, cut, [&] {
    EXPECT_TRUE(Steps() == all || Steps() == kept);
    cut();
    EXPECT_EQ(Steps(), kept);
  });
}

class ShardFaults : public testing::Test {
 protected:
  std::string file() const { return (folder_.path() / "tokens.hearth").string(); }

  void Write(int32_t first) const {
    HearthWriter writer({.path = file(), .vocab_size = 1000, .has_loss_mask = true});
    for (int32_t i = 0; i < 5000; ++i) {
      const int32_t token = (first + i) % 1000;
      writer.Append({&token, 1});
      if (i % 700 == 0) writer.EndDocument();
    }
    writer.Finish();
  }
  // Of a file that is whole; -1 for none.
  int32_t First() const {
    if (!std::filesystem::exists(file())) return -1;
    const auto tokens = TokenFile::Open(file());
    tokens->Verify();
    EXPECT_EQ(tokens->token_count(), 5000);
    int32_t first = 0;
    tokens->ReadTokens(0, {&first, 1});
    return first;
  }

  TemporaryFolder folder_;
};

TEST_F(ShardFaults, AShardIsTheOldOrTheNewOne) {
  const auto prepare = [&] {
    std::filesystem::remove_all(folder_.path());
    std::filesystem::create_directory(folder_.path());
    Write(1);
  };
  const auto write = [&] { Write(2); };
  FailEveryCall(prepare, write, [&](bool reported) {
    EXPECT_TRUE(First() == 2 || (reported && First() == 1)) << First();
  });
  DieInEveryCall(prepare, write, [&] { EXPECT_TRUE(First() == 1 || First() == 2); });
}

class ExportFaults : public testing::Test {
 protected:
  ExportFaults() {
    ModelConfig config;
    config.family = ModelFamily::kLlama;
    config.vocab_size = 9;
    config.hidden_size = 8;
    config.intermediate_size = 12;
    config.num_layers = 1;
    config.num_heads = 2;
    config.num_kv_heads = 1;
    config.head_dim = 4;
    config.max_position_embeddings = 16;
    spec_ = BuildModelSpec(config);
  }
  std::filesystem::path target() const { return folder_.path() / "hf"; }

  // Three files or so, every weight `value`.
  void Export(float value) const {
    ExportHf(spec_, {.folder = target(), .max_shard_bytes = 800},
             [&](const ExportPiece&, std::span<float> out) {
               std::fill(out.begin(), out.end(), value);
             });
  }
  // The value of every weight of an export that is whole; 0 for none.
  float Value() const {
    if (!std::filesystem::exists(target())) return 0;
    const WeightSource source(target(), spec_);
    float value = 0;
    source.Read(spec_.parameters[0], 0, {&value, 1});
    for (const ParameterSpec& parameter : spec_.parameters) {
      std::vector<float> values(static_cast<size_t>(parameter.elements()));
      source.Read(parameter, 0, values);
      EXPECT_EQ(values, std::vector<float>(values.size(), value)) << parameter.name;
    }
    return value;
  }

  ModelSpec spec_;
  TemporaryFolder folder_;
};

TEST_F(ExportFaults, AnExportIsTheOldOrTheNewOne) {
  const auto prepare = [&] {
    std::filesystem::remove_all(folder_.path());
    std::filesystem::create_directory(folder_.path());
    Export(1);
  };
  const auto write = [&] { Export(2); };
  FailEveryCall(prepare, write, [&](bool reported) {
    EXPECT_TRUE(Value() == 2 || (reported && Value() == 1)) << Value();
  });
  DieInEveryCall(prepare, write, [&] { EXPECT_TRUE(Value() == 1 || Value() == 2) << Value(); });
}

// A disk that is really full, not one that says so. In a process and a mount namespace of its own.
TEST(FullDisk, IsReportedAndLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const pid_t process = fork();
  if (process == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      _exit(77);
    }
    WriteDurably(folder.path() / "old", std::string(20'000, 'o'));
    int failures = 0;
    try {
      WriteDurably(folder.path() / "new", std::string(100'000, 'n'));
    } catch (const IoError& error) {
      failures += std::string(error.what()).find("No space left") != std::string::npos ? 1 : 0;
    }
    try {
      RequireFreeSpace(folder.path(), 100'000);
    } catch (const IoError&) {
      ++failures;
    }
    const bool kept = FileText(folder.path() / "old") == std::string(20'000, 'o');
    std::filesystem::remove(folder.path() / "new");
    WriteDurably(folder.path() / "again", std::string(20'000, 'a'));
    _exit(failures == 2 && kept ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(process, &status, 0), process);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no rights to mount a file system";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace hearth::test
