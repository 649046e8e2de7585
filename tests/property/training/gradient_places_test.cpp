// Where gradients are between their uses must not change a bit: whole on the device, shared out
// among ranks (ZeRO 2), or on the host.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Keys = TrainingKeys;

// Three layers: the first and the last share a slot.
std::string Model(bool tied = false) {
  std::string model = SmallModel();
  const auto set = [&](const std::string& from, const std::string& to) {
    model.replace(model.find(from), from.size(), to);
  };
  set("num_hidden_layers: 2", "num_hidden_layers: 3");
  if (tied) set("tie_word_embeddings: false", "tie_word_embeddings: true");
  return model;
}

const Keys kHost = {{"memory", "offload: {gradients: host}"}};

Keys Parallel(int stage, const char* order) {
  return {{"parallel", fmt::format("zero_stage: {}", stage)},
          {"parallel", fmt::format("reduction_order: {}", order)}};
}

class GradientPlacement : public testing::TestWithParam<std::string> {
 protected:
  // Eight sequences a step: 8 / `ranks` micro-batches of each rank unless a key says otherwise. An
  // evaluation in between, for which carried updates are done.
  TrainingRunOptions Options(int ranks, const Keys& keys, bool tied = false) const {
    Keys all = Join(PrecisionKeys(GetParam()),
                    {{"optimizer", "learning_rate: 0.01"}, {"eval", "eval_steps: 2"}});
    const bool given = std::any_of(keys.begin(), keys.end(), [](const auto& key) {
      return key.second.starts_with("micro_batch_size");
    });
    if (!given) all.emplace_back("training", "micro_batch_size: 1");
    return {.ranks = ranks, .model = Model(tied), .keys = Join(all, keys), .steps = 3};
  }
  TrainingRunResult Train(int ranks, const Keys& keys, bool tied = false) const {
    return TrainInProcess(Options(ranks, keys, tied));
  }
};

TEST_P(GradientPlacement, StagesAgreeWithOneOrderOfSums) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  for (const auto& [ranks, order] :
       {std::pair{2, "rank_then_micro"}, std::pair{3, "micro_then_rank"},
        std::pair{4, "rank_then_micro"}}) {
    SCOPED_TRACE(fmt::format("{} ranks, {}", ranks, order));
    const TrainingRunResult stage1 = Train(ranks, Parallel(1, order));
    ExpectSameBits(stage1, Train(ranks, Parallel(2, order)));
    ExpectSameBits(stage1, Train(ranks, Join(Parallel(ranks == 2 ? 0 : 2, order), kHost)));
  }
}

TEST_P(GradientPlacement, StagesAgreeWithOneMicroBatch) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const Keys one = {{"training", "micro_batch_size: 4"}};
  const TrainingRunResult stage0 = Train(2, Join(Parallel(0, "auto"), one));
  for (int stage : {1, 2}) {
    ExpectSameBits(stage0, Train(2, Join(Parallel(stage, "auto"), one)));
    ExpectSameBits(stage0, Train(2, Join(Join(Parallel(stage, "auto"), one), kHost)));
  }
}

// The order that stage 2 takes by itself.
TEST_P(GradientPlacement, StageTwoAddsTheRanksFirstUnlessVertical) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  for (bool tied : {false, true}) {
    SCOPED_TRACE(tied ? "tied" : "untied");
    ExpectSameBits(Train(2, Parallel(1, "rank_then_micro"), tied),
                   Train(2, Parallel(2, "auto"), tied));
    const Keys vertical = {{"memory", "schedule: vertical"}};
    ExpectSameBits(Train(2, Parallel(1, "auto"), tied),
                   Train(2, Join(Parallel(2, "auto"), vertical), tied));
  }
}

TEST_P(GradientPlacement, OnTheHost) {
  for (const auto& [clipping, tied] :
       {std::pair{"max_grad_norm: 0.05", false}, std::pair{"max_grad_norm: 0", false},
        std::pair{"max_grad_norm: 0", true}}) {
    SCOPED_TRACE(fmt::format("{}, {}", clipping, tied ? "tied" : "untied"));
    const Keys keys = {{"training", clipping}, {"training", "micro_batch_size: 2"}};
    const TrainingRunResult device = Train(1, keys, tied);
    ExpectSameBits(device, Train(1, Join(keys, kHost), tied));
    ExpectSameBits(
        device,
        Train(1, Join(keys, {{"memory", "offload: {gradients: host, optimizer: host}"}}), tied));
    ExpectSameBits(device,
                   Train(1,
                         Join(keys, {{"memory", "offload: {gradients: host, optimizer: host}"},
                                     {"memory", "optimizer_device: gpu"},
                                     {"memory", "schedule: vertical"}}),
                         tied));
  }
}

TEST_P(GradientPlacement, OnTheHostWithGroupsAndRecompute) {
  const TrainingRunResult device = Train(1, {});
  for (const char* group : {"micro_batches_per_group: 2", "micro_batches_per_group: 3"}) {
    SCOPED_TRACE(group);
    ExpectSameBits(device,
                   Train(1, Join(kHost, {{"memory", group}, {"memory", "recompute: [block]"}})));
  }
}

TEST_P(GradientPlacement, OnTheHostsOfSeveralRanks) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const Keys host_state = {{"memory", "offload: {gradients: host, optimizer: host}"}};
  for (const char* order : {"rank_then_micro", "micro_then_rank"}) {
    SCOPED_TRACE(order);
    const TrainingRunResult stage1 = Train(2, Parallel(1, order));
    ExpectSameBits(stage1, Train(2, Join(Parallel(0, order), host_state)));
    ExpectSameBits(stage1, Train(2, Join(Parallel(1, order), host_state)));
    ExpectSameBits(stage1, Train(2, Join(Join(Parallel(2, order), host_state),
                                         {{"memory", "optimizer_device: gpu"}})));
  }
}

// A checkpoint knows nothing of where gradients were; the order of their sums is kept.
TEST_P(GradientPlacement, SavedAtOneStageAndResumedAtAnother) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const TrainingRunResult whole = Train(2, Parallel(2, "auto"));
  const TemporaryFolder folder;
  TrainingRunOptions options = Options(2, {});
  options.folder = folder.path();
  options.export_hf = true;
  const auto run = [&](int64_t stop, const Keys& keys) {
    TrainingRunOptions piece = options;
    piece.keys = Join(piece.keys, keys);
    piece.stop_after = stop;
    return TrainInProcess(piece);
  };
  run(1, Parallel(2, "auto"));
  run(1, Join(Parallel(1, "auto"), kHost));
  ExpectSameBits(whole, run(-1, Parallel(2, "auto")));
}

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// `hearth gradients` writes all of them from wherever they are.
TEST_P(GradientPlacement, CanBeWritten) {
  const TemporaryFolder folder;
  const int ranks = RanksUnderTest(2);
  TrainingRunOptions options = Options(1, {});
  options.folder = folder.path();
  options.steps = 1;
  TrainInProcess(options);  // for its inputs
  std::string precision, expected;
  for (const auto& [section, line] : PrecisionKeys(GetParam())) precision += "  " + line + "\n";
  for (const char* keys : {"parallel: {zero_stage: 1}\n", "parallel: {zero_stage: 2}\n",
                           "memory: {offload: {gradients: host}}\n",
                           "parallel: {zero_stage: 0}\nmemory: {offload: {gradients: host}}\n"}) {
    SCOPED_TRACE(keys);
    const ResolvedConfig resolved = ParseConfig(
        {.text = fmt::format("output_dir: {0}/none\n"
                             "model:\n  name_or_path: {0}/model.yaml\n"
                             "data:\n  datasets: [{{path: {0}/train.hearth}}]\n  sequence_len: 24\n"
                             "training:\n  max_steps: 1\n  global_batch_size: 4\n"
                             "  micro_batch_size: {1}\n"
                             "precision:\n{2}{3}",
                             folder.path().string(), 4 / ranks, precision, keys),
         .file_name = "test.yaml",
         .features = {.cuda = BackendUnderTest() == "cuda"}});
    const std::filesystem::path out = folder.path() / "gradients.safetensors";
    WriteGradients(resolved, ranks, out, /*with_logits=*/false);
    if (expected.empty()) expected = FileText(out);
    EXPECT_EQ(FileText(out), expected);
    std::filesystem::remove(out);
  }
}

INSTANTIATE_TEST_SUITE_P(Precision, GradientPlacement,
                         testing::Values("fp32", "bf16", "fp8_verified"),
                         [](const auto& test) { return test.param; });

// Sums in fp32 of a bf16 run, and FP8's head, whose gradients have their own way.
TEST(GradientPlacementTypes, OtherTypes) {
  for (const Keys& keys :
       {Keys{{"precision", "compute_dtype: bf16"}, {"precision", "grad_dtype: fp32"}},
        PrecisionKeys("fp8_head")}) {
    const Keys all = Join(keys, {{"training", "micro_batch_size: 2"}});
    const int ranks = RanksUnderTest(2);
    const auto train = [&](const Keys& more) {
      return TrainInProcess(
          {.ranks = ranks, .model = Model(), .keys = Join(all, more), .steps = 3});
    };
    const TrainingRunResult device = train(Parallel(1, "rank_then_micro"));
    ExpectSameBits(device, train(Parallel(2, "rank_then_micro")));
    ExpectSameBits(device, train(Join(Parallel(2, "rank_then_micro"), kHost)));
  }
}

}  // namespace
}  // namespace hearth::test
