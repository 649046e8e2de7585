#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <tuple>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "tests/support/communicator_conformance.h"
#include "tests/support/gpu_ranks.h"

namespace hearth::test {
namespace {

class GpuRanksConformance
    : public ::testing::TestWithParam<std::tuple<std::string, ConformanceCase>> {};

TEST_P(GpuRanksConformance, Holds) {
  const auto& [kind, test] = GetParam();
  const auto bootstrap = MakeMpiBootstrap(
      {.init_timeout = std::chrono::seconds(60), .collective_timeout = std::chrono::seconds(60)});
  if (kind == "nccl" && !HasNccl(*bootstrap)) GTEST_SKIP() << "NCCL wants a GPU for each rank";
  test.run({.kind = kind, .bootstrap = *bootstrap, .backend = RankBackend(*bootstrap)});
}

INSTANTIATE_TEST_SUITE_P(All, GpuRanksConformance,
                         ::testing::Combine(::testing::Values("copy_engine", "nccl", "mpi"),
                                            ::testing::ValuesIn(ConformanceCases())),
                         [](const auto& instance) {
                           return std::get<0>(instance.param) + "_" +
                                  std::get<1>(instance.param).name;
                         });

}  // namespace
}  // namespace hearth::test
