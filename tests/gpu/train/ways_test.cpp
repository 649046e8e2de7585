// Whole training steps over every way in which GPUs exchange: not a bit may differ.
#include <gtest/gtest.h>

#include <chrono>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr std::chrono::milliseconds kTimeout{60'000};

struct Way {
  std::string name;
  std::string kind;
  CommunicatorOptions options;
};

// MPI comes first: it is what the others are compared with.
std::vector<Way> Ways(const Bootstrap& bootstrap) {
  std::vector<Way> ways = {
      {"mpi", "mpi", {.collective_timeout = kTimeout}},
      {"copy engines", "copy_engine", {.collective_timeout = kTimeout}},
      {"copy engines in small pieces",
       "copy_engine",
       {.collective_timeout = kTimeout, .piece_bytes = 64}},
      {"copy engines through the host",
       "copy_engine",
       {.collective_timeout = kTimeout, .stage = true}},
      {"copy engines through the host in small pieces",
       "copy_engine",
       {.collective_timeout = kTimeout, .piece_bytes = 64, .stage = true}},
  };
  if (HasNccl(bootstrap)) {
    ways.push_back({"nccl", "nccl", {.collective_timeout = kTimeout}});
  }
  return ways;
}

struct Sharding {
  std::string name;
  TrainingKeys keys;
};

// For GoogleTest's messages.
std::ostream& operator<<(std::ostream& out, const Sharding& sharding) {
  return out << sharding.name;
}

const std::vector<Sharding>& Shardings() {
  static const std::vector<Sharding> shardings = {
      {"Zero0", {{"parallel", "zero_stage: 0"}}},
      {"Zero1", {{"parallel", "zero_stage: 1"}}},
      {"Zero1RankThenMicro",
       {{"parallel", "zero_stage: 1"}, {"parallel", "reduction_order: rank_then_micro"}}},
      {"Zero2", {{"parallel", "zero_stage: 2"}}},
      {"Zero2HostGradients",
       {{"parallel", "zero_stage: 2"}, {"memory", "offload: {gradients: host}"}}},
      {"Zero3", {{"parallel", "zero_stage: 3"}}},
      {"Zero3HostWeights",
       {{"parallel", "zero_stage: 3"}, {"memory", "offload: {weights: host, optimizer: host}"}}},
      {"Zero1HostState", {{"parallel", "zero_stage: 1"}, {"memory", "offload: {optimizer: host}"}}},
  };
  return shardings;
}

class GpuRanksTraining : public ::testing::TestWithParam<std::tuple<std::string, Sharding>> {};

TEST_P(GpuRanksTraining, HasTheSameBitsOverEveryWay) {
  const auto& [precision, sharding] = GetParam();
  const auto bootstrap =
      MakeMpiBootstrap({.init_timeout = kTimeout, .collective_timeout = kTimeout});
  TrainingRunOptions options{.keys = PrecisionKeys(precision)};
  options.keys.insert(options.keys.end(), sharding.keys.begin(), sharding.keys.end());
  options.keys.emplace_back("training", "micro_batch_size: 1");  // several per step and rank
  TrainingRunResult expected;
  for (const Way& way : Ways(*bootstrap)) {
    SCOPED_TRACE(way.name);
    const auto backend =
        MakeBackend("cuda", {.device_ordinal = bootstrap->local_rank() % CudaDeviceCount()});
    bootstrap->Barrier();  // where ranks share a GPU, nobody sets one up while another one waits
    TrainingRunResult result = TrainAsRank(options, {.bootstrap = *bootstrap,
                                                     .backend = *backend,
                                                     .kind = way.kind,
                                                     .communicator = way.options});
    if (expected.weights.empty()) {
      expected = std::move(result);
      ASSERT_EQ(expected.steps, options.steps);
      ASSERT_EQ(std::ssize(expected.losses), bootstrap->rank() == 0 ? options.steps : 0);
      ASSERT_FALSE(expected.weights.empty());
      continue;
    }
    EXPECT_EQ(result.losses, expected.losses);
    EXPECT_EQ(result.grad_norms, expected.grad_norms);
    EXPECT_EQ(result.eval_losses, expected.eval_losses);
    EXPECT_TRUE(result.weights == expected.weights);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GpuRanksTraining,
                         ::testing::Combine(::testing::Values("bf16", "fp8", "fp8_verified"),
                                            ::testing::ValuesIn(Shardings())),
                         [](const auto& instance) {
                           return std::get<0>(instance.param) + "_" +
                                  std::get<1>(instance.param).name;
                         });

}  // namespace
}  // namespace hearth::test
