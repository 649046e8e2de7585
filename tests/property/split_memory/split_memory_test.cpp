// The runtime touches device memory only through copies and ops: everything it does gives the same
// bits on a device whose memory would kill a host that reads or writes it.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/core/error.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/config/resolved_config.h"
#include "runtime/data/hashing.h"
#include "runtime/train/generate_run.h"
#include "runtime/train/gradients_run.h"
#include "tests/support/inproc_world.h"
#include "tests/support/split_memory_backend.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Keys = TrainingKeys;

// ---- The device itself: a test that cannot fail would be none ----

TEST(SplitMemoryDeathTest, TheHostCannotTouchDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  SplitMemoryBackend backend(1);
  const Buffer buffer = backend.device().Allocate(100, MemoryKind::kDevice);
  volatile std::byte* bytes = buffer.data();
  EXPECT_DEATH(static_cast<void>(bytes[99]), "");
  EXPECT_DEATH(bytes[0] = std::byte{1}, "");
}

TEST(SplitMemory, CopiesReachIt) {
  SplitMemoryBackend backend(1);
  Device& device = backend.device();
  const auto stream = device.CreateStream("test");
  const Buffer memory = device.Allocate(64, MemoryKind::kDevice);
  const Buffer host = device.Allocate(64, MemoryKind::kPinnedHost);
  const auto view = [](const Buffer& buffer, int64_t begin) {
    return buffer.View(begin * 4, DType::kI32, {8});
  };
  for (int i = 0; i < 8; ++i) view(host, 0).as<int32_t>()[i] = 3 * i;
  backend.Copy(*stream, {.source = view(host, 0), .destination = view(memory, 5)});
  backend.Copy(*stream, {.source = view(memory, 5), .destination = view(host, 8)});
  stream->Synchronize(std::chrono::minutes(1));
  for (int i = 0; i < 8; ++i) EXPECT_EQ(view(host, 8).as<int32_t>()[i], 3 * i);
  EXPECT_EQ(device.allocated_bytes(MemoryKind::kDevice), 64);
}

TEST(SplitMemory, OpsRefuseTheHostsMemory) {
  SplitMemoryBackend backend(1);
  Device& device = backend.device();
  const auto stream = device.CreateStream("test");
  const Buffer memory = device.Allocate(64, MemoryKind::kDevice);
  const Buffer host = device.Allocate(64, MemoryKind::kPinnedHost);
  std::vector<float> ordinary(16);
  const TensorView outside(ordinary.data(), Shape{16});
  const TensorView inside = memory.View(0, DType::kF32, {16});
  EXPECT_THROW(backend.Zero(*stream, {.destination = host.View(0, DType::kF32, {16})}), CheckError);
  EXPECT_THROW(backend.Zero(*stream, {.destination = outside}), CheckError);
  EXPECT_THROW(backend.Copy(*stream, {.source = outside, .destination = inside}), CheckError);
  EXPECT_THROW(backend.Copy(*stream, {.source = inside, .destination = outside}), CheckError);
}

// ---- The runtime on it ----

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// The content of the files with that extension.
std::map<std::string, std::string> Files(const std::filesystem::path& folder,
                                         const std::string& extension) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == extension) {
      files[entry.path().filename().string()] = FileText(entry.path());
    }
  }
  EXPECT_FALSE(files.empty()) << folder;
  return files;
}

class SplitMemoryRun : public testing::TestWithParam<std::string> {
 protected:
  TrainingRunOptions Options(const Keys& keys, int ranks = 1) const {
    TrainingRunOptions options{.ranks = ranks, .backend = "cpu", .keys = keys, .steps = 3};
    const TrainingKeys precision = PrecisionKeys(GetParam());
    options.keys.insert(options.keys.end(), precision.begin(), precision.end());
    options.keys.emplace_back("optimizer", "learning_rate: 0.01");
    return options;
  }
  void ExpectSameAsTogether(TrainingRunOptions options) const {
    const TrainingRunResult together = TrainInProcess(options);
    options.backend = "split";
    ExpectSameBits(TrainInProcess(options), together);
  }
};

TEST_P(SplitMemoryRun, Training) {
  ExpectSameAsTogether(Options({{"training", "micro_batch_size: 3"}, {"eval", "eval_steps: 1"}}));
  ExpectSameAsTogether(Options({{"memory", "recompute: [block]"}}));
}

TEST_P(SplitMemoryRun, PackedDocumentsAndMaskedTargets) {
  TrainingRunOptions options = Options({{"data", "sample_packing: true"}});
  options.document_length = 10;
  options.masked_share = 0.3;
  ExpectSameAsTogether(options);
}

TEST_P(SplitMemoryRun, HostState) {
  ExpectSameAsTogether(Options({{"memory", "offload: {optimizer: host}"}}));
  ExpectSameAsTogether(
      Options({{"memory", "offload: {optimizer: host}"}, {"memory", "optimizer_device: gpu"}}));
  ExpectSameAsTogether(Options({{"memory", "offload: {v: host, weights: host}"}}));
}

// Of three blocks one keeps its state on the device, one is updated by the host, one streams.
TEST_P(SplitMemoryRun, EachBlocksStateElsewhere) {
  TrainingRunOptions options =
      Options({{"memory", "offload: {optimizer: host, weights: host, gradients: host}"},
               {"memory", "optimizer_device: gpu"},
               {"memory", "resident_layers: 1"},
               {"memory", "host_updated_layers: 1"}});
  const std::string_view layers = "num_hidden_layers: 2";
  options.model = SmallModel();
  options.model.replace(options.model.find(layers), layers.size(), "num_hidden_layers: 3");
  ExpectSameAsTogether(options);
}

TEST_P(SplitMemoryRun, BlockInputsOnTheHost) {
  ExpectSameAsTogether(Options({{"training", "micro_batch_size: 2"},
                                {"memory", "micro_batches_per_group: 3"},
                                {"memory", "recompute: [block]"},
                                {"memory", "offload: {residual: host}"}}));
}

TEST_P(SplitMemoryRun, HostGradients) {
  ExpectSameAsTogether(Options({{"memory", "offload: {gradients: host, optimizer: host}"},
                                {"training", "micro_batch_size: 2"}}));
  ExpectSameAsTogether(Options({{"memory", "offload: {gradients: host}"},
                                {"parallel", "zero_stage: 2"},
                                {"training", "micro_batch_size: 2"}},
                               2));
}

TEST_P(SplitMemoryRun, TwoRanks) {
  ExpectSameAsTogether(Options({{"parallel", "zero_stage: 0"}}, 2));
  ExpectSameAsTogether(Options({{"parallel", "zero_stage: 1"}}, 2));
  ExpectSameAsTogether(
      Options({{"memory", "offload: {optimizer: host}"}, {"training", "micro_batch_size: 2"}}, 2));
  ExpectSameAsTogether(Options({{"memory", "offload: {optimizer: host, weights: host}"}}, 2));
  ExpectSameAsTogether(
      Options({{"parallel", "zero_stage: 3"}, {"training", "micro_batch_size: 2"}}, 2));
}

// Saved by one kind of device, gone on with on the other; the state to the last byte.
TEST_P(SplitMemoryRun, SavesResumesAndExports) {
  for (const bool async : {false, true}) {
    SCOPED_TRACE(async);
    const TemporaryFolder together_folder, split_folder;
    TrainingRunOptions options =
        Options({{"checkpoint", fmt::format("async_save: {}", async)}}, async ? 2 : 1);
    options.save_steps = 1;
    options.export_hf = true;
    options.folder = together_folder.path();
    const TrainingRunResult together = TrainInProcess(options);
    options.folder = split_folder.path();
    options.backend = "split";
    options.stop_after = 2;
    TrainInProcess(options);
    options.stop_after = -1;
    ExpectSameBits(TrainInProcess(options), together);
    for (const char* saved : {"out/checkpoint-2", "out/checkpoint-3", "out/hf"}) {
      EXPECT_EQ(Files(split_folder.path() / saved, ".safetensors"),
                Files(together_folder.path() / saved, ".safetensors"))
          << saved;
    }
  }
}

// The choice of matmul algorithms goes from the backend's warm-up into plan and checkpoints, and
// from there back into the backend.
TEST(SplitMemoryMatmuls, TheTableIsKept) {
  const TemporaryFolder folder;
  TrainingRunOptions options{.ranks = 2, .backend = "split", .steps = 2, .folder = folder.path()};
  options.stop_after = 1;
  TrainInProcess(options);
  const std::filesystem::path table = folder.path() / "out/checkpoint-1/matmuls.txt";
  const std::string measured = FileText(table);
  EXPECT_THAT(measured, testing::HasSubstr("\n"));
  const std::string first = measured.substr(0, measured.find('\n'));
  EXPECT_THAT(FileText(folder.path() / "out/plan.yaml"),
              testing::HasSubstr("matmuls: |\n  " + first));
  EXPECT_EQ(Checkpoint(table.parent_path()).ReadMatmulTable(), measured);

  // An entry that no warm-up makes: the next checkpoint can have it from this one alone.
  const std::string more = measured + "1 2 3\n";
  CheckpointManifest manifest = ReadManifest(table.parent_path() / kManifestName);
  for (CheckpointFile& file : manifest.files) {
    if (file.name != kCheckpointMatmulsName) continue;
    file.bytes = std::ssize(more);
    file.hash = Xxh3Hash128(more);
  }
  std::ofstream(table) << more;
  std::ofstream(table.parent_path() / kManifestName) << ManifestText(manifest);
  options.stop_after = -1;
  EXPECT_EQ(TrainInProcess(options).steps, 2);
  EXPECT_THAT(FileText(folder.path() / "out/checkpoint-2/matmuls.txt"),
              testing::HasSubstr("1 2 3\n"));
}

// Runs `body` on one rank of each kind of memory.
template <typename Body>
void OnBoth(const Body& body) {
  for (const bool split : {false, true}) {
    const InprocWorldOptions world{.ranks = 1, .backend = split ? "split" : "cpu"};
    RunInprocWorld(world, [&](InprocRank& rank) {
      Heartbeat heartbeat;
      body(split, RunEnvironment{.bootstrap = rank.bootstrap,
                                 .backend = rank.backend,
                                 .communicator = rank.communicator,
                                 .heartbeat = heartbeat});
    });
  }
}

TEST_P(SplitMemoryRun, Gradients) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options({});
  options.folder = folder.path();
  options.steps = 1;
  TrainInProcess(options);  // for its inputs
  std::string precision;
  for (const auto& [section, line] : PrecisionKeys(GetParam())) precision += "  " + line + "\n";
  const ResolvedConfig resolved = ParseConfig(
      {.text = fmt::format("output_dir: {0}/none\n"
                           "model:\n  name_or_path: {0}/model.yaml\n"
                           "data:\n  datasets: [{{path: {0}/train.hearth}}]\n  sequence_len: 24\n"
                           "training:\n  max_steps: 1\n  global_batch_size: 4\n"
                           "  micro_batch_size: 2\n"
                           "precision:\n{1}",
                           folder.path().string(), precision),
       .file_name = "test.yaml"});
  const auto file = [&](bool split) {
    return folder.path() / (split ? "split.safetensors" : "together.safetensors");
  };
  OnBoth([&](bool split, const RunEnvironment& environment) {
    RunGradients(resolved, environment, file(split), /*with_logits=*/true);
  });
  EXPECT_EQ(FileText(file(true)), FileText(file(false)));
}

INSTANTIATE_TEST_SUITE_P(Precision, SplitMemoryRun, testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return test.param; });

TEST(SplitMemoryGenerate, DrawsTheSameTokens) {
  const TemporaryFolder folder;
  TrainInProcess({.backend = "cpu",
                  .keys = {{"precision", "compute_dtype: bf16"}},
                  .steps = 2,
                  .export_hf = true,
                  .folder = folder.path()});
  for (const char* model : {"out/hf", "out/checkpoint-2"}) {
    std::map<bool, std::vector<int32_t>> tokens;
    OnBoth([&](bool split, const RunEnvironment& environment) {
      RunGenerate(folder.path() / model, {.prompt = {1, 2, 3}, .max_tokens = 5}, environment,
                  [&](int32_t token) { tokens[split].push_back(token); });
    });
    EXPECT_EQ(tokens[true], tokens[false]) << model;
    EXPECT_EQ(tokens[true].size(), 5u) << model;
  }
}

}  // namespace
}  // namespace hearth::test
