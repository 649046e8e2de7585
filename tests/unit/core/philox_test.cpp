#include "kernels/core/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace hearth::test {
namespace {

// Known answers published with Random123 (kat_vectors, philox4x32 with ten rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox4x32(0, {0, 0, 0, 0}), (Philox4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32(~uint64_t{0}, {~0u, ~0u, ~0u, ~0u}),
            (Philox4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32(0x299f31d0a4093822u, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Philox4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, CounterLayout) {
  const RandomStream stream{.seed = 0x123456789abcdef0u,
                            .step = 77,
                            .tensor_id = 0xabcd,
                            .use = RandomUse::kWire,
                            .micro_batch = 0x123};
  const uint64_t group = 0x5'0000'0003u;
  EXPECT_EQ(stream.Draw(group), Philox4x32(stream.seed, {3, 5, 77, 0xabcd'4'123}));
  for (uint64_t lane = 0; lane < 4; ++lane) {
    EXPECT_EQ(stream.DrawElement(4 * group + lane), stream.Draw(group)[lane]);
  }
}

// No two uses of a run may share a draw: their counters differ in at least one field.
TEST(Philox, UsesDoNotShareDraws) {
  std::set<Philox4> draws;
  size_t streams = 0;
  for (const RandomUse use :
       {RandomUse::kMomentM, RandomUse::kMomentV, RandomUse::kMaster,
        RandomUse::kGradientAccumulation, RandomUse::kWire, RandomUse::kActivationStore,
        RandomUse::kInitialization, RandomUse::kSampling}) {
    for (const uint32_t step : {0u, 1u, 2u, 0xffffffffu}) {
      for (const uint32_t tensor : {0u, 1u, 0xffffu}) {
        for (const uint32_t micro_batch : {0u, 1u, 0xfffu}) {
          draws.insert(RandomStream{
              .seed = 42, .step = step, .tensor_id = tensor, .use = use, .micro_batch = micro_batch}
                           .Draw(9));
          ++streams;
        }
      }
    }
  }
  EXPECT_EQ(draws.size(), streams);
}

}  // namespace
}  // namespace hearth::test
