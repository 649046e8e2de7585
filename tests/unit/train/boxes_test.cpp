#include "runtime/train/boxes.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using Clock = std::chrono::steady_clock;

// Two boxes of two; the work ends when both ranks of the second box have heard of it.
TEST(InFirstBox, WhoWaitsTellsWhereTheRunIs) {
  std::atomic<int> told{0};
  std::atomic<int> works{0};
  RunInprocWorld({.ranks = 4}, [&](InprocRank& rank) {
    const int number = rank.bootstrap.rank();
    const auto box = rank.bootstrap.Split(number / 2);
    const auto peers = rank.bootstrap.Split(number % 2);
    Heartbeat unwatched;
    const RunEnvironment environment{
        .bootstrap = rank.bootstrap,
        .backend = rank.backend,
        .communicator = rank.communicator,
        .heartbeat = unwatched,
        .links = BoxLinks{
            .box = *box, .peers = *peers, .network = rank.communicator, .host = "unknown"}};
    int mine = 0;
    const auto progress = [&] {
      if (++mine == 1 && number >= 2) ++told;
    };
    const auto deadline = Clock::now() + std::chrono::seconds(60);
    InFirstBox(environment, progress, [&](const std::function<void()>& tick) {
      ++works;
      while (told < 2 && Clock::now() < deadline) tick();
    });
    EXPECT_GE(mine, 1) << "rank " << number;
  });
  EXPECT_EQ(works, 2);
  EXPECT_EQ(told, 2);
}

TEST(InFirstBox, IsAllThereIsWithOneBox) {
  RunInprocWorld({.ranks = 1}, [&](InprocRank& rank) {
    Heartbeat unwatched;
    const RunEnvironment environment{.bootstrap = rank.bootstrap,
                                     .backend = rank.backend,
                                     .communicator = rank.communicator,
                                     .heartbeat = unwatched};
    int told = 0;
    InFirstBox(
        environment, [&] { ++told; }, [](const std::function<void()>& tick) { tick(); });
    EXPECT_EQ(told, 1);
  });
}

}  // namespace
}  // namespace hearth::test
