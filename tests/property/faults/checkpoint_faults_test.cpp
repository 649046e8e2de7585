// Whatever happens to the disk or the process while a checkpoint is written or read: what was saved
// before stays, a save that fails says so, and nothing is loaded but what was saved.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "comm/inproc/inproc_bootstrap.h"
#include "kernels/core/error.h"
#include "runtime/checkpoint/checkpoint_saver.h"
#include "runtime/checkpoint/find_checkpoint.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/plan/plan.h"
#include "tests/property/faults/faulty_calls.h"
#include "tests/support/inproc_world.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

constexpr int kKinds = kStateKindCount;

ModelSpec SmallSpec() {
  ModelConfig config;
  config.family = ModelFamily::kQwen3;
  config.vocab_size = 19;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_layers = 1;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 8;
  config.max_position_embeddings = 64;
  config.qk_norm = true;
  return BuildModelSpec(config);
}

// Every byte of the state as a function of the step; no two steps are alike anywhere.
std::vector<std::byte> StateBytes(int64_t step, size_t parameter, int kind, int64_t begin,
                                  int64_t count, int64_t size) {
  std::vector<std::byte> bytes(static_cast<size_t>(count * size));
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t element = static_cast<uint64_t>(begin + i) * 64 + parameter * 3 +
                             static_cast<uint64_t>(kind) + (static_cast<uint64_t>(step) << 40);
    const uint64_t mixed = (element * 0x9E3779B97F4A7C15u) >> 17;
    std::memcpy(bytes.data() + i * size, &mixed, static_cast<size_t>(size));
  }
  return bytes;
}

struct SaveCase {
  int64_t step = 1;
  int ranks = 1;
  bool async = false;
  Fault fault = Fault::kNone;
  int64_t at = 0;
};

struct SaveResult {
  std::string error;  // of Finish
  int64_t calls = 0;
  bool struck = false;
  std::vector<FileCall> log;
};

class CheckpointFaults : public testing::Test {
 protected:
  ResolvedConfig Resolved(bool async) const {
    return ParseConfig({.text = "output_dir: " + out().string() +
                                "\nmodel: {name_or_path: m.yaml}\n"
                                "data: {datasets: [{path: a}], sequence_len: 16}\n"
                                "training: {global_batch_size: 8, micro_batch_size: 1}\n"
                                "precision: {compute_dtype: bf16}\ncheckpoint: {async_save: " +
                                (async ? "true" : "false") + "}\n",
                        .file_name = "run.yaml",
                        .overrides = {},
                        .features = {}});
  }

  std::filesystem::path out() const { return folder_.path() / "out"; }

  // Saves the state of the step on that many ranks; two checkpoints are kept.
  SaveResult Save(const SaveCase& c) const {
    const Plan plan = MakePlan(Resolved(c.async), spec_, c.ranks);
    SaveResult result;
    RunInprocWorld({.ranks = c.ranks, .backend = "cpu"},
                   [&](InprocRank& rank) { SaveOnRank(c, plan, rank, &result); });
    return result;
  }

  void SaveOnRank(const SaveCase& c, const Plan& plan, InprocRank& rank, SaveResult* result) const {
    const RankMemory memory(rank.backend.device(), plan, spec_, rank.bootstrap.rank());
    const OptimizerStore store(memory);
    Fill(store, memory, c.step);
    CheckpointSaver saver({.output_dir = out(), .total_limit = 2, .async = c.async}, rank.bootstrap,
                          memory, store, [](const TensorView& source, void* destination) {
                            std::memcpy(destination, source.data(),
                                        static_cast<size_t>(source.bytes()));
                          });
    const bool is_root = rank.bootstrap.rank() == 0;
    std::optional<FaultWindow> window;
    if (is_root) window.emplace(c.fault, c.at);
    rank.bootstrap.Barrier();
    saver.Start({.hearth_version = "test",
                 .step = c.step,
                 .world = c.ranks,
                 .sequence_len = 16,
                 .global_batch_size = 8,
                 .numeric = plan.numeric,
                 .types = plan.state_types},
                "");
    const std::string error = saver.Finish();
    rank.bootstrap.Barrier();
    if (!is_root) return;
    *result = {error, window->calls(), window->has_struck(), window->log()};
  }

  void Fill(const OptimizerStore& store, const RankMemory& memory, int64_t step) const {
    for (size_t unit = 0; unit < spec_.units.size(); ++unit) {
      const ElementRange range = memory.plan.Updated(spec_.units[unit], memory.rank);
      for (const ParameterPiece& piece : PiecesOf(spec_, static_cast<int>(unit), range)) {
        const auto parameter = static_cast<size_t>(piece.parameter - spec_.parameters.data());
        for (int kind = 0; kind < kKinds; ++kind) {
          const TensorView home = store.Home(static_cast<int>(unit), static_cast<StateKind>(kind));
          const auto bytes = StateBytes(step, parameter, kind, piece.first_element, piece.count,
                                        SizeOf(home.dtype()));
          std::memcpy(home.Rows(piece.range_begin, piece.count).data(), bytes.data(), bytes.size());
        }
      }
    }
  }

  // The step of what a run would go on from, every byte of it compared; 0 for nothing.
  int64_t LoadedStep() const {
    const auto bootstraps = MakeInprocBootstraps(1, {});
    const auto checkpoint = FindCheckpoint(Resolved(false), *bootstraps[0], {});
    if (!checkpoint) return 0;
    const CheckpointInfo& info = checkpoint->manifest().info;
    for (size_t parameter = 0; parameter < spec_.parameters.size(); ++parameter) {
      const int64_t elements = spec_.parameters[parameter].elements();
      for (int kind = 0; kind < kKinds; ++kind) {
        const int64_t size = SizeOf(TypeOf(info.types, static_cast<StateKind>(kind)));
        std::vector<std::byte> bytes(static_cast<size_t>(elements * size));
        checkpoint->Read(parameter, static_cast<StateKind>(kind), 0, bytes);
        EXPECT_EQ(bytes, StateBytes(info.step, parameter, kind, 0, elements, size))
            << "step " << info.step << ", " << spec_.parameters[parameter].name;
      }
    }
    return info.step;
  }

  // Saves in a process that dies on the way; false where it did not come to that.
  bool SaveAndDie(const SaveCase& c) const {
    const pid_t process = fork();
    if (process == 0) {
      const SaveResult result = Save(c);
      _exit(result.error.empty() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(process, &status, 0), process);
    if (WIFSIGNALED(status)) {
      EXPECT_EQ(WTERMSIG(status), SIGKILL);
      return true;
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return false;
  }

  std::vector<std::string> HiddenNames() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(out())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with('.')) names.push_back(name);
    }
    return names;
  }

  // One save with its fault, on top of what is there. Afterwards nothing older than the last good
  // save is loaded, and what is loaded is what was saved.
  void Suffer(SaveCase c) {
    c.step = ++step_;
    SCOPED_TRACE(testing::Message()
                 << Name(c.fault) << " in call " << c.at << " of the save of step " << c.step
                 << (c.async ? ", async, " : ", ") << c.ranks << " ranks");
    bool reported = false, must_succeed = false, must_clean_up = false;
    if (c.fault == Fault::kKill) {
      reported = SaveAndDie(c);
    } else {
      const SaveResult result = Save(c);
      reported = !result.error.empty();
      must_succeed = !result.struck || c.fault == Fault::kShort || c.fault == Fault::kInterrupted;
      must_clean_up = reported && c.fault == Fault::kNoSpace;
      struck_ += result.struck ? 1 : 0;
    }
    failed_ += reported ? 1 : 0;
    if (must_succeed) {
      EXPECT_FALSE(reported);
    }
    if (must_clean_up) {
      for (const std::string& name : HiddenNames()) {
        EXPECT_FALSE(name.starts_with("." + CheckpointName(step_) + ".")) << name;
      }
    }
    const int64_t loaded = LoadedStep();
    // A save that failed after the checkpoint had its name may leave it: it is whole.
    EXPECT_TRUE(loaded == step_ || (reported && loaded == good_step_)) << loaded;
    good_step_ = loaded;
  }

  // Everything that can differ, drawn; a save in four goes well.
  void SufferAtRandom(int saves, unsigned seed) {
    std::mt19937 random(seed);
    constexpr Fault kFaults[] = {Fault::kNone,  Fault::kNoSpace,     Fault::kNoSpace,
                                 Fault::kShort, Fault::kInterrupted, Fault::kIoError,
                                 Fault::kKill,  Fault::kKill};
    for (int i = 0; i < saves; ++i) {
      Suffer({.ranks = 1 + static_cast<int>(random() % 3),
              .async = random() % 2 == 0,
              .fault = kFaults[random() % std::size(kFaults)],
              .at = static_cast<int64_t>(random() % 45)});
      if (HasFailure()) return;
    }
    EXPECT_GE(failed_, saves / 8);
  }

  const ModelSpec spec_ = SmallSpec();
  int64_t step_ = 0;
  int64_t good_step_ = 0;
  int64_t struck_ = 0;
  int64_t failed_ = 0;
  TemporaryFolder folder_;
};

class LongCheckpointFaults : public CheckpointFaults {};

// Otherwise every other test here would pass for nothing.
TEST_F(CheckpointFaults, TheCallsOfASaveAreMet) {
  for (int64_t step : {1, 2, 3}) {
    const SaveResult result = Save({.step = step});
    EXPECT_EQ(result.error, "");
    std::set<std::string> names;
    for (const FileCall& call : result.log) names.insert(call.name);
    for (const char* name : {"mkdir", "open", "write", "fsync", "close", "rename", "read"}) {
      EXPECT_TRUE(names.contains(name)) << name;
    }
    EXPECT_EQ(names.contains("unlink"), step == 3);  // the first of two that are kept
    EXPECT_EQ(LoadedStep(), step);
  }
}

// What a crash of the whole machine would take away is on the disk before the name promises it.
TEST_F(CheckpointFaults, BytesAreOnTheDiskBeforeTheName) {
  for (const bool async : {false, true}) {
    const SaveResult result = Save({.step = ++step_, .ranks = 2, .async = async});
    ASSERT_EQ(result.error, "");
    const std::string name = (out() / CheckpointName(step_)).string();
    std::set<std::string> unsynced;
    std::set<std::string> written;
    std::string unfinished;
    bool folder_synced = false, parent_synced = false;
    for (const FileCall& call : result.log) {
      if (call.name == "write") {
        EXPECT_EQ(unfinished, "") << call.path << " is written under its final name";
        unsynced.insert(call.path);
        written.insert(std::filesystem::path(call.path).filename());
      } else if (call.name == "fsync") {
        unsynced.erase(call.path);
        folder_synced |= call.path.ends_with(".unfinished");
        parent_synced |= !unfinished.empty() && call.path == out();
      } else if (call.name == "rename" && call.path == name) {
        unfinished = call.from;
        EXPECT_EQ(unsynced, std::set<std::string>());
        EXPECT_TRUE(folder_synced);
      }
    }
    EXPECT_EQ(written,
              std::set<std::string>({"config.json", "manifest.json", "state-rank-00000.safetensors",
                                     "state-rank-00001.safetensors"}));
    EXPECT_NE(unfinished, "");
    EXPECT_TRUE(parent_synced);
  }
}

TEST_F(CheckpointFaults, EveryCallOfASaveFailsOnce) {
  for (const bool async : {false, true}) {
    for (int i = 0; i < 2; ++i) Suffer({.async = async});  // from now on one is removed each time
    const int64_t calls = Save({.step = ++step_, .async = async}).calls;
    good_step_ = LoadedStep();
    ASSERT_GE(calls, 15);
    for (const Fault fault :
         {Fault::kNoSpace, Fault::kIoError, Fault::kShort, Fault::kInterrupted}) {
      for (int64_t at = 0; at < calls + 2; ++at) {
        Suffer({.async = async, .fault = fault, .at = at});
        if (HasFailure()) return;
        if (at % 4 == 0) Suffer({.async = async});  // the disk is well again
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GE(struck_, 60);
  EXPECT_GE(failed_, 40);
}

TEST_F(CheckpointFaults, TheProcessDiesInEveryCallOfASave) {
  for (const bool async : {false, true}) {
    for (int i = 0; i < 2; ++i) Suffer({.async = async});
    const int64_t calls = Save({.step = ++step_, .async = async}).calls;
    good_step_ = LoadedStep();
    for (int64_t at = 0; at < calls; ++at) {
      Suffer({.async = async, .fault = Fault::kKill, .at = at});
      if (HasFailure()) return;
      if (at % 3 == 0) Suffer({.async = async});
    }
  }
  EXPECT_GE(failed_, 30);
  RemoveLeftovers(out());
  EXPECT_EQ(HiddenNames(), std::vector<std::string>());
}

// A disk that gives wrong answers while a checkpoint is looked for gives no wrong checkpoint.
TEST_F(CheckpointFaults, EveryReadFailsOnce) {
  for (int64_t step : {1, 2}) ASSERT_EQ(Save({.step = step, .ranks = 2}).error, "");
  int64_t calls = 0;
  {
    const FaultWindow window(Fault::kNone, 0);
    ASSERT_EQ(LoadedStep(), 2);
    calls = window.calls();
  }
  ASSERT_GE(calls, 10);
  int64_t passed_over = 0;
  for (const Fault fault : {Fault::kIoError, Fault::kShort, Fault::kInterrupted}) {
    for (int64_t at = 0; at < calls; ++at) {
      SCOPED_TRACE(testing::Message() << Name(fault) << " in call " << at);
      const FaultWindow window(fault, at);
      try {
        const int64_t loaded = LoadedStep();
        EXPECT_TRUE(loaded == 2 || (fault == Fault::kIoError && loaded == 1)) << loaded;
        passed_over += loaded == 1 ? 1 : 0;
      } catch (const IoError& error) {
        EXPECT_EQ(fault, Fault::kIoError) << error.what();
      }
      if (HasFailure()) return;
    }
  }
  EXPECT_GE(passed_over, 3);
}

TEST_F(CheckpointFaults, RandomFaults) { SufferAtRandom(60, 5); }
TEST_F(LongCheckpointFaults, AThousandRandomFaults) { SufferAtRandom(1000, 6); }

}  // namespace
}  // namespace hearth::test
