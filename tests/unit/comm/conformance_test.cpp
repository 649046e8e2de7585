#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "tests/support/communicator_conformance.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

class InprocConformance : public ::testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(InprocConformance, Holds) {
  const auto& [test, ranks] = GetParam();
  RunInprocWorld({.ranks = ranks}, [run = test.run](InprocRank& rank) {
    run({.kind = "inproc", .bootstrap = rank.bootstrap, .backend = rank.backend});
    // The others would wait for what this rank left out.
    if (HasFatalFailure()) throw std::runtime_error("a rank failed");
  });
}

INSTANTIATE_TEST_SUITE_P(All, InprocConformance,
                         ::testing::Combine(::testing::ValuesIn(ConformanceCases()),
                                            ::testing::Values(1, 2, 3, 4)),
                         [](const auto& instance) {
                           return std::get<0>(instance.param).name +
                                  std::to_string(std::get<1>(instance.param));
                         });

}  // namespace
}  // namespace hearth::test
