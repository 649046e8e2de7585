#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "comm/communicators.h"

namespace hearth::test {
namespace {

TEST(MpiBootstrap, NamesTheRankThatSleeps) {
  const std::chrono::milliseconds timeout{500};
  const auto all = MakeMpiBootstrap({.collective_timeout = std::chrono::seconds(60)});
  if (all->world() == 1) return;
  const int sleeper = all->world() - 1;
  const auto bootstrap = MakeMpiBootstrap({.collective_timeout = timeout});
  if (bootstrap->rank() != sleeper) {
    try {
      bootstrap->Barrier();
      ADD_FAILURE() << "the barrier ended without rank " << sleeper;
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr("no answer from rank " + std::to_string(sleeper)));
    }
  }
  all->Barrier();
}

}  // namespace
}  // namespace hearth::test
