// A checkpoint's state gets into an executor that has it elsewhere, whoever reads it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/checkpoint_saver.h"
#include "runtime/checkpoint/folders.h"
#include "tests/support/temporary_folder.h"
#include "tests/unit/train/executor_case.h"

namespace hearth::test {
namespace {

constexpr std::array<StateKind, kStateKindCount> kKinds = {StateKind::kMaster, StateKind::kM,
                                                           StateKind::kV};

// All of this rank's state, padding left out, in the order of the units.
std::vector<std::byte> StateBytes(Executor& executor) {
  std::vector<std::byte> bytes;
  const ModelSpec& spec = executor.memory().spec;
  for (const ParameterSpec& parameter : spec.parameters) {
    const ElementRange part = UpdatedPart(executor.memory(), parameter, {0, parameter.elements()});
    if (part.count() == 0) continue;
    for (StateKind kind : kKinds) {
      const TensorView view = executor.optimizer().Home(parameter.unit, kind, part);
      const size_t at = bytes.size();
      bytes.resize(at + static_cast<size_t>(view.bytes()));
      executor.transfer().Download(view, bytes.data() + at);
    }
  }
  return bytes;
}

// Bytes without any order, so that one in a wrong place is seen.
void FillState(Executor& executor) {
  const ModelSpec& spec = executor.memory().spec;
  for (int unit = 0; unit < static_cast<int>(spec.units.size()); ++unit) {
    for (StateKind kind : kKinds) {
      const auto seed = static_cast<uint64_t>(unit) * 3 + static_cast<uint64_t>(kind);
      executor.transfer().Fill(
          executor.optimizer().Home(unit, kind), [&](int64_t begin, std::span<std::byte> out) {
            for (size_t i = 0; i < out.size(); ++i) {
              const auto at = static_cast<uint32_t>(begin) + static_cast<uint32_t>(i);
              out[i] = std::byte(Philox4x32(seed, {at / 4})[at % 4] & 0xff);
            }
          });
    }
  }
}

std::filesystem::path Save(InprocRank& rank, Executor& executor,
                           const std::filesystem::path& folder) {
  CheckpointSaver saver({.output_dir = folder, .total_limit = 1, .async = false, .progress = {}},
                        rank.bootstrap, executor.memory(), executor.optimizer(),
                        [&](const TensorView& source, void* destination) {
                          executor.transfer().Download(source, destination);
                        });
  const Plan& plan = executor.memory().plan;
  saver.Start({.step = 1,
               .world = plan.world,
               .sequence_len = plan.sequence_len,
               .global_batch_size = plan.global_batch_size,
               .numeric = plan.numeric,
               .types = plan.state_types},
              "");
  EXPECT_EQ(saver.Finish(), "");
  return folder / CheckpointName(1);
}

TEST(LoadOptimizerState, GivesTheSameBytesForAnyPlaceAndNumberOfThreads) {
  const ModelSetup model = SmallSetup();
  for (const char* master : {"fp32", "bf16_stochastic"}) {
    const TemporaryFolder folder;
    std::vector<std::byte> saved;
    std::filesystem::path checkpoint;
    WithExecutor({.master = master}, model.spec, [&](InprocRank& rank, Executor& executor) {
      FillState(executor);
      saved = StateBytes(executor);
      checkpoint = Save(rank, executor, folder.path());
    });
    for (const char* backend : {"cpu", "split"}) {
      for (const char* memory : {"", "offload: {optimizer: host}"}) {
        for (int threads : {1, 5}) {
          const ExecutorCase c{
              .backend = backend, .threads = threads, .memory = memory, .master = master};
          SCOPED_TRACE(c.Name());
          WithExecutor(c, model.spec, [&](InprocRank&, Executor& executor) {
            int ticks = 0;
            LoadOptimizerState(Checkpoint(checkpoint), {.optimizer = executor.optimizer(),
                                                        .memory = executor.memory(),
                                                        .transfer = executor.transfer(),
                                                        .threads = threads,
                                                        .tick = [&] { ++ticks; }});
            EXPECT_TRUE(StateBytes(executor) == saved);
            EXPECT_GE(ticks, 3 * std::ssize(model.spec.parameters));
          });
        }
      }
    }
  }
}

// Whichever byte it is, and however many read.
TEST(VerifyFile, SeesADamagedByteWithAnyNumberOfThreads) {
  const ModelSetup model = SmallSetup();
  const TemporaryFolder folder;
  std::filesystem::path path;
  WithExecutor({}, model.spec, [&](InprocRank& rank, Executor& executor) {
    FillState(executor);
    path = Save(rank, executor, folder.path());
  });
  const Checkpoint checkpoint(path);
  const std::vector<CheckpointFile>& files = checkpoint.manifest().files;
  const auto found = std::find_if(files.begin(), files.end(), [](const CheckpointFile& file) {
    return file.name.ends_with(".safetensors");
  });
  ASSERT_NE(found, files.end());
  const CheckpointFile& file = *found;
  const auto index = static_cast<size_t>(found - files.begin());
  ASSERT_GT(file.bytes, int64_t{3} << 20);
  std::fstream stream(path / file.name, std::ios::in | std::ios::out | std::ios::binary);
  const auto flip = [&](int64_t at) {
    stream.seekg(at);
    const char byte = static_cast<char>(stream.get() ^ 0x10);
    stream.seekp(at);
    stream.put(byte);
    stream.flush();
    ASSERT_TRUE(stream) << at;
  };
  for (int threads : {1, 2, 5}) {
    int ticks = 0;
    checkpoint.VerifyFile(index, {.threads = threads, .progress = [&] { ++ticks; }});
    EXPECT_GT(ticks, 0);
    for (int64_t at : {int64_t{0}, int64_t{1} << 20, (int64_t{2} << 20) - 1, file.bytes - 1}) {
      flip(at);
      EXPECT_THROW(checkpoint.VerifyFile(index, {.threads = threads}), IoError) << at;
      flip(at);
    }
  }
}

}  // namespace
}  // namespace hearth::test
