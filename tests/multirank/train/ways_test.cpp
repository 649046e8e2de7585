// Training on ranks that are processes: the same bits as on threads, however messages are cut.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr std::chrono::milliseconds kTimeout{60'000};

class RanksTraining : public ::testing::TestWithParam<std::string> {};

TEST_P(RanksTraining, HasTheSameBitsAsOnThreads) {
  const auto bootstrap =
      MakeMpiBootstrap({.init_timeout = kTimeout, .collective_timeout = kTimeout});
  TrainingRunOptions options{.ranks = bootstrap->world(), .keys = PrecisionKeys(GetParam())};
  TrainingRunResult expected;
  if (bootstrap->rank() == 0) expected = TrainInProcess(options);
  for (const CommunicatorOptions& way :
       {CommunicatorOptions{.collective_timeout = kTimeout},
        CommunicatorOptions{.collective_timeout = kTimeout, .piece_bytes = 1024, .stage = true}}) {
    SCOPED_TRACE(way.stage ? "staged" : "direct");
    const auto backend = MakeBackend("cpu", {.threads = 1});
    const TrainingRunResult result = TrainAsRank(
        options,
        {.bootstrap = *bootstrap, .backend = *backend, .kind = "mpi", .communicator = way});
    EXPECT_EQ(result.steps, options.steps);
    ASSERT_FALSE(result.weights.empty());
    if (bootstrap->rank() != 0) continue;
    EXPECT_EQ(std::ssize(result.losses), options.steps);
    EXPECT_EQ(result.losses, expected.losses);
    EXPECT_EQ(result.grad_norms, expected.grad_norms);
    EXPECT_EQ(result.eval_losses, expected.eval_losses);
    EXPECT_TRUE(result.weights == expected.weights);
  }
}

// Each rank a box of its own: the order of sums is the same.
TEST_P(RanksTraining, HasTheSameBitsInBoxes) {
  const auto bootstrap =
      MakeMpiBootstrap({.init_timeout = kTimeout, .collective_timeout = kTimeout});
  TrainingRunOptions options{.ranks = bootstrap->world(), .keys = PrecisionKeys(GetParam())};
  TrainingRunResult expected;
  if (bootstrap->rank() == 0) expected = TrainInProcess(options);
  const auto backend = MakeBackend("cpu", {.threads = 1});
  const TrainingRunResult result = TrainAsRank(
      options,
      {.bootstrap = *bootstrap,
       .backend = *backend,
       .kind = "mpi",
       .communicator = CommunicatorOptions{.collective_timeout = kTimeout, .piece_bytes = 1024},
       .boxes = bootstrap->world()});
  EXPECT_TRUE(result.boxes_agree);
  if (bootstrap->rank() != 0) return;
  EXPECT_EQ(std::ssize(result.losses), options.steps);
  EXPECT_EQ(result.losses, expected.losses);
  EXPECT_EQ(result.grad_norms, expected.grad_norms);
  EXPECT_EQ(result.eval_losses, expected.eval_losses);
  EXPECT_TRUE(result.weights == expected.weights);
}

INSTANTIATE_TEST_SUITE_P(All, RanksTraining, ::testing::Values("bf16", "fp8_verified"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hearth::test
