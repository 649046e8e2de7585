// The host optimizer against the reference backend, bit for bit.
#include "kernels/host/host_adamw.h"

#include <hwy/targets.h>

#include <cmath>
#include <cstring>

#include "tests/support/adamw_state.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

using Types = AdamwTypes;
using State = AdamwState;

std::vector<Types> AllTypes() {
  const DType both[] = {DType::kF32, DType::kBF16};
  std::vector<Types> all;
  for (const DType master : both) {
    for (const DType m : both) {
      for (const DType v : both) {
        for (const DType gradient : both) {
          for (const DType weight : both) all.push_back({master, m, v, gradient, weight});
        }
      }
    }
  }
  return all;
}

std::string Text(const Types& types) {
  return Format("master {} m {} v {} gradient {} weight {}", Name(types.master), Name(types.m),
                Name(types.v), Name(types.gradient), Name(types.weight));
}

// Segments of random sizes with gaps, at random places of their parameters.
std::vector<AdamwSegment> RandomSegments(Random& random, int64_t n) {
  std::vector<AdamwSegment> segments;
  int64_t at = random.Integer(0, 5);
  while (at < n) {
    const int64_t count = std::min(
        n - at, random.Integer(0, 3) == 0 ? random.Integer(0, 9) : random.Integer(1, 3 * n / 4));
    segments.push_back({.begin = at,
                        .count = count,
                        .first_element = random.Integer(0, 1) == 0 ? 4 * random.Integer(0, 99)
                                                                   : random.Integer(0, 12345),
                        .tensor_id = static_cast<uint32_t>(random.Integer(0, 65535)),
                        .decay = random.Integer(0, 1) == 0});
    at += count + random.Integer(0, 3);
  }
  return segments;
}

class HostAdamwTest : public testing::Test {
 protected:
  HostAdamwTest() : rig_("cpu") {}
  ~HostAdamwTest() override { hwy::SetSupportedTargetsForTest(0); }

  AdamwHyper RandomHyper() {
    return MakeAdamwHyper(static_cast<float>(random_.Uniform(1e-4, 1e-2)), 0.9f, 0.95f, 1e-8f, 0.1f,
                          static_cast<uint64_t>(random_.Integer(0, INT64_MAX)),
                          random_.Integer(1, 100000));
  }

  // Updates by reference and host; expects the same bytes.
  void ExpectSameBits(State& state, const AdamwArgs& args, HostAdamw& host) {
    const auto before = state.Written();
    rig_.backend().Adamw(rig_.stream(), args);
    const auto expected = state.Written();
    state.Restore(before);
    host.Update(args);
    const auto actual = state.Written();
    EXPECT_TRUE(actual[0] == expected[0]) << "master";
    EXPECT_TRUE(actual[1] == expected[1]) << "m";
    EXPECT_TRUE(actual[2] == expected[2]) << "v";
    EXPECT_TRUE(actual[3] == expected[3]) << "weight";
    EXPECT_FALSE(expected == before) << "the update changed nothing";
  }

  Rig rig_;
  Random random_;
};

// Runs `test` once for each instruction set of this machine.
void ForEachTarget(const std::function<void()>& test) {
  hwy::SetSupportedTargetsForTest(0);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(HostAdamw::simd_target());
    EXPECT_EQ(HostAdamw::simd_target(), hwy::TargetName(target));
    test();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_F(HostAdamwTest, SameBitsAsTheReferenceForAllTypesAndInstructionSets) {
  for (const Types& types : AllTypes()) {
    SCOPED_TRACE(Text(types));
    const int64_t n = random_.Integer(300, 2500);
    State state(rig_, random_, n, types);
    state.SetControl({.clip_factor = static_cast<float>(random_.Uniform(0.1, 1.0))});
    const AdamwArgs args = state.Args(RandomHyper(), RandomSegments(random_, n));
    ForEachTarget([&] {
      const auto before = state.Written();
      HostAdamw host(2);
      ExpectSameBits(state, args, host);
      state.Restore(before);
    });
  }
}

TEST_F(HostAdamwTest, SameBitsForEveryNumberOfThreads) {
  const int64_t n = 150'001;
  const Types types{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};
  State state(rig_, random_, n, types);
  const AdamwArgs args = state.Args(RandomHyper(), RandomSegments(random_, n));
  for (const int threads : {1, 2, 3, 7}) {
    SCOPED_TRACE(threads);
    HostAdamw host(threads);
    ExpectSameBits(state, args, host);
  }
}

TEST_F(HostAdamwTest, SameBitsForSmallAndRaggedRanges) {
  const Types types{DType::kBF16, DType::kBF16, DType::kF32, DType::kBF16, DType::kBF16};
  HostAdamw host(2);
  for (int64_t n = 1; n < 140; ++n) {
    SCOPED_TRACE(n);
    State state(rig_, random_, n, types);
    ExpectSameBits(state,
                   state.Args(RandomHyper(), {{.begin = 0,
                                               .count = n,
                                               .first_element = random_.Integer(0, 70),
                                               .tensor_id = 5,
                                               .decay = true}}),
                   host);
  }
}

// Defect 6: element indices beyond 2^31 and 2^32, and the step from one upper half of the group's
// index to the next (at element 2^34) inside a range.
TEST_F(HostAdamwTest, SameBitsBeyond32BitIndices) {
  const Types types{DType::kBF16, DType::kBF16, DType::kBF16, DType::kF32, DType::kF32};
  HostAdamw host(2);
  for (const int power : {31, 32, 33, 34, 35, 40}) {
    SCOPED_TRACE(power);
    State state(rig_, random_, 1500, types);
    const int64_t first = (int64_t{1} << power) - random_.Integer(1, 1400);
    ForEachTarget([&] {
      ExpectSameBits(
          state,
          state.Args(RandomHyper(),
                     {{.begin = 0, .count = 1500, .first_element = first, .tensor_id = 1}}),
          host);
    });
  }
}

TEST_F(HostAdamwTest, SpecialValuesRoundAlike) {
  const double inf = INFINITY;
  const std::vector<double> special = {
      0.0,  -0.0,  inf, -inf, 1e-40,    -1e-40,   3.3e38,       -3e38,          0x1.fffffep127,
      1e30, 1e-30, 1.0, -1.0, 0x1p-126, 0x1p-149, -0x1.ff8p127, 0x1.fe0002p127, 0x1.fdfffep127};
  const auto kinds = static_cast<int64_t>(special.size());
  const int64_t n = kinds * kinds * 3 + 5;
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    State state(rig_, random_, n, {storage, storage, storage, storage, DType::kBF16});
    std::vector<double> gradient(static_cast<size_t>(n)), master(gradient.size());
    for (size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = special[i % special.size()];
      master[i] = special[i / special.size() % special.size()];
    }
    state.gradient.Set(gradient);
    state.master.Set(master);
    const AdamwArgs args =
        state.Args(RandomHyper(), {{.begin = 0, .count = n, .tensor_id = 9, .decay = true}});
    ForEachTarget([&] {
      const auto before = state.Written();
      rig_.backend().Adamw(rig_.stream(), args);
      const std::vector<std::vector<double>> expected = {state.master.Get(), state.m.Get(),
                                                         state.v.Get(), state.weight.Get()};
      state.Restore(before);
      HostAdamw(1).Update(args);
      // As values: which bits a NaN carries is not promised.
      ExpectSame(state.master.Get(), expected[0], "master");
      ExpectSame(state.m.Get(), expected[1], "m");
      ExpectSame(state.v.Get(), expected[2], "v");
      ExpectSame(state.weight.Get(), expected[3], "weight");
      state.Restore(before);
    });
  }
}

// A skipped step leaves the state and writes the weights, as the reference does; RoundMaster is the
// same without the rest of the arguments.
TEST_F(HostAdamwTest, SkipWritesTheWeightsAlone) {
  for (const Types& types : AllTypes()) {
    SCOPED_TRACE(Text(types));
    State state(rig_, random_, 40'000, types);
    state.SetControl({.clip_factor = 0.5f, .skip = 1});
    const AdamwArgs args = state.Args(RandomHyper(), {{.begin = 5, .count = 35'000}});
    const auto before = state.Written();
    rig_.backend().Adamw(rig_.stream(), args);
    const auto expected = state.Written();
    double largest = 0;
    const std::vector<double> weights = state.weight.Get();
    for (size_t i = 5; i < 35'005; ++i) largest = std::max(largest, std::abs(weights[i]));
    ForEachTarget([&] {
      HostAdamw host(2);
      std::vector<float> amax = {0.0f};
      state.Restore(before);
      host.Update(args, amax);
      EXPECT_TRUE(state.Written() == expected);
      EXPECT_EQ(static_cast<double>(amax[0]), largest);
      amax[0] = 0.0f;
      state.Restore(before);
      host.RoundMaster({.segments = args.segments, .master = args.master, .weight = args.weight},
                       amax);
      EXPECT_TRUE(state.Written() == expected);
      EXPECT_EQ(static_cast<double>(amax[0]), largest);
    });
    AdamwArgs without = args;
    without.weight = {};
    HostAdamw host(1);
    host.Update(without);
    EXPECT_TRUE(state.Written() == expected);
    EXPECT_THROW(host.RoundMaster(without), CheckError);
  }
}

TEST_F(HostAdamwTest, AmaxOfTheNewWeightsPerSegment) {
  for (const Types& types : AllTypes()) {
    SCOPED_TRACE(Text(types));
    State state(rig_, random_, 70'000, types);
    const std::vector<AdamwSegment> segments = {{.begin = 3, .count = 999, .tensor_id = 1},
                                                {.begin = 1002, .count = 0, .tensor_id = 2},
                                                {.begin = 1100, .count = 68'900, .tensor_id = 3},
                                                {.begin = 70'000, .count = 0, .tensor_id = 4}};
    std::vector<float> amax = {0.0f, 0.25f, 1.0f, 0.0f};
    HostAdamw host(3);
    host.Update(state.Args(RandomHyper(), segments), amax);
    const std::vector<double> weight = state.weight.Get();
    for (size_t s = 0; s < segments.size(); ++s) {
      double expected = std::vector<double>{0.0, 0.25, 1.0, 0.0}[s];
      for (int64_t i = 0; i < segments[s].count; ++i) {
        expected = std::max(expected, std::abs(weight[static_cast<size_t>(segments[s].begin + i)]));
      }
      EXPECT_EQ(static_cast<double>(amax[s]), expected) << "segment " << s;
    }
    // A larger earlier value stays; a NaN wins.
    std::vector<float> large = {1e9f, 0.0f, 0.0f, 0.0f};
    std::vector<double> gradient = state.gradient.Get();
    gradient[50'000] = NAN;
    state.gradient.Set(gradient);
    host.Update(state.Args(RandomHyper(), segments), large);
    EXPECT_EQ(large[0], 1e9f);
    EXPECT_TRUE(std::isnan(large[2]));
  }
}

TEST_F(HostAdamwTest, WithoutWeight) {
  State state(rig_, random_, 5000, AllTypes().front());
  AdamwArgs args = state.Args(RandomHyper(), {{.begin = 0, .count = 5000}});
  args.weight = {};
  HostAdamw host(2);
  ExpectSameBits(state, args, host);
  std::vector<float> amax(1);
  EXPECT_THROW(host.Update(args, amax), CheckError);
}

TEST_F(HostAdamwTest, RefusesWrongArguments) {
  State state(rig_, random_, 100, AllTypes().front());
  const AdamwArgs args = state.Args(RandomHyper(), {{.begin = 0, .count = 100}});
  HostAdamw host(1);
  std::vector<float> two(2);
  EXPECT_THROW(host.Update(args, two), CheckError);
  AdamwArgs overlapping = args;
  overlapping.segments = {{.begin = 0, .count = 50}, {.begin = 49, .count = 10}};
  EXPECT_THROW(host.Update(overlapping), CheckError);
  EXPECT_THROW(host.Quantize(state.weight, 1.0f, state.m), CheckError);
  EXPECT_THROW(HostAdamw(0), CheckError);
}

// Every FP32 sign, exponent and upper mantissa, and every bf16 number, against the exact codec.
TEST_F(HostAdamwTest, QuantizeMatchesTheCodec) {
  constexpr int64_t kCount = 1 << 16;
  std::vector<uint8_t> narrow(2 * kCount), wide(4 * kCount);
  for (uint32_t i = 0; i < kCount; ++i) {
    const auto half = static_cast<uint16_t>(i);
    std::memcpy(narrow.data() + 2 * i, &half, 2);
    const uint32_t bits = (i << 16) | static_cast<uint32_t>(random_.Integer(0, 0xffff));
    std::memcpy(wide.data() + 4 * i, &bits, 4);
  }
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    DeviceTensor weight(rig_, storage, {kCount - 1});
    std::vector<uint8_t> bytes = storage == DType::kF32 ? wide : narrow;
    bytes.resize(static_cast<size_t>(weight.view().bytes()));
    weight.SetBytes(bytes);
    const std::vector<double> values = weight.Get();
    for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
      for (const float scale : {1.0f, 0.37f, 123.0f}) {
        ForEachTarget([&] {
          DeviceTensor out(rig_, format, {kCount - 1});
          HostAdamw(3).Quantize(weight, scale, out);
          const std::vector<uint8_t> actual = out.GetBytes();
          for (size_t i = 0; i < actual.size(); ++i) {
            const float scaled = static_cast<float>(values[i]) * scale;
            if (std::isnan(scaled)) {
              ASSERT_EQ(actual[i] & 0x7f, 0x7f) << "value " << i;
              continue;
            }
            const uint8_t expected =
                format == DType::kF8E4M3 ? ToE4M3(scaled).bits : ToE5M2(scaled).bits;
            ASSERT_EQ(actual[i], expected) << "value " << i << " = " << values[i];
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace hearth::test
