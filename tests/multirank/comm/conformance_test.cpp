#include <gtest/gtest.h>

#include <chrono>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "tests/support/communicator_conformance.h"

namespace hearth::test {
namespace {

class MpiConformance : public ::testing::TestWithParam<ConformanceCase> {};

TEST_P(MpiConformance, Holds) {
  const auto bootstrap = MakeMpiBootstrap(
      {.init_timeout = std::chrono::seconds(60), .collective_timeout = std::chrono::seconds(60)});
  const auto backend = MakeBackend("cpu", {});
  GetParam().run({.kind = "mpi", .bootstrap = *bootstrap, .backend = *backend});
}

INSTANTIATE_TEST_SUITE_P(All, MpiConformance, ::testing::ValuesIn(ConformanceCases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace hearth::test
