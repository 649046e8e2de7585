#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "tests/support/communicator_conformance.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using Parameters = std::tuple<ConformanceCase, int>;

void RunCase(const char* kind, const Parameters& parameters) {
  const auto& [test, ranks] = parameters;
  RunInprocWorld({.ranks = ranks}, [kind, run = test.run](InprocRank& rank) {
    run({.kind = kind, .bootstrap = rank.bootstrap, .backend = rank.backend});
    // The others would wait for what this rank left out.
    if (testing::Test::HasFatalFailure()) throw std::runtime_error("a rank failed");
  });
}

std::string NameOf(const testing::TestParamInfo<Parameters>& instance) {
  return std::get<0>(instance.param).name + std::to_string(std::get<1>(instance.param));
}

class InprocConformance : public testing::TestWithParam<Parameters> {};
TEST_P(InprocConformance, Holds) { RunCase("inproc", GetParam()); }
INSTANTIATE_TEST_SUITE_P(All, InprocConformance,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Values(1, 2, 3, 4)),
                         NameOf);

class TcpConformance : public testing::TestWithParam<Parameters> {};
TEST_P(TcpConformance, Holds) { RunCase("tcp", GetParam()); }
INSTANTIATE_TEST_SUITE_P(All, TcpConformance,
                         testing::Combine(testing::ValuesIn(CommunicatorCases()),
                                          testing::Values(2, 3, 4)),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Failures, TcpConformance,
                         testing::Combine(testing::ValuesIn(CommunicatorFailureCases()),
                                          testing::Values(2, 3)),
                         NameOf);

}  // namespace
}  // namespace hearth::test
