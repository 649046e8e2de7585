// AdamW against an implementation in double precision; its rounding against the counters of
// kernels/core/philox.h.
#include "kernels/api/adamw.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "tests/support/adamw_state.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

constexpr double kU = 0x1p-24;

using Types = AdamwTypes;
using State = AdamwState;

constexpr Types kAllF32{};
constexpr Types kAllBF16{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};
constexpr Types kDefault{DType::kF32, DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};

AdamwHyper Hyper(int64_t step, uint64_t seed = 42) {
  return MakeAdamwHyper(1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, seed, step);
}

class AdamwTest : public KernelTest {};

TEST_P(AdamwTest, BiasCorrections) {
  for (const int64_t step : std::vector<int64_t>{1, 2, 10, 1000, 1'000'000, 4'000'000'000}) {
    const AdamwHyper hyper = MakeAdamwHyper(1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 7, step);
    const long double beta1 = 0.9f;
    const long double beta2 = 0.999f;
    EXPECT_EQ(hyper.step, static_cast<uint32_t>(step));
    EXPECT_NEAR(hyper.inverse_bias1, 1 / (1 - std::pow(beta1, step)), 1e-6 * hyper.inverse_bias1);
    EXPECT_NEAR(hyper.inverse_sqrt_bias2, 1 / std::sqrt(1 - std::pow(beta2, step)),
                1e-6 * hyper.inverse_sqrt_bias2);
  }
  EXPECT_THROW(Hyper(0), CheckError);
  EXPECT_THROW(Hyper(-1), CheckError);
  EXPECT_THROW(Hyper(int64_t{1} << 32), CheckError);
}

// One step in double from the same inputs. A stored moment may differ by one rounding, to nearest
// or stochastic (less than two units); the master is judged from the moments as they were stored.
TEST_P(AdamwTest, OneStepMatchesDoublePrecision) {
  for (const Types& types : {kAllF32, kAllBF16, kDefault}) {
    const int64_t n = 20'011;
    const State state(rig_, random_, n, types);
    const AdamwHyper hyper = Hyper(random_.Integer(1, 50));
    const float clip = 0.37f;
    const_cast<State&>(state).SetControl({.clip_factor = clip});
    const auto m = state.m.Get(), v = state.v.Get(), g = state.gradient.Get(),
               master = state.master.Get();
    const int64_t half = n / 2;
    backend().Adamw(stream(), state.Args(hyper, {{.begin = 0, .count = half, .decay = true},
                                                 {.begin = half, .count = n - half}}));
    const auto new_m = state.m.Get(), new_v = state.v.Get();
    std::vector<double> m_expected, m_bound, v_expected, v_bound, expected, bound;
    const double beta1 = hyper.beta1, beta2 = hyper.beta2;
    const double m_unit = types.m == DType::kF32 ? 0 : 0x1p-7;
    const double v_unit = types.v == DType::kF32 ? 0 : 0x1p-7;
    const double master_unit = types.master == DType::kF32 ? 0 : 0x1p-7;
    for (size_t i = 0; i < m.size(); ++i) {
      const double gradient = g[i] * static_cast<double>(clip);
      m_expected.push_back(beta1 * m[i] + (1 - beta1) * gradient);
      m_bound.push_back(4 * kU * (std::abs(beta1 * m[i]) + std::abs((1 - beta1) * gradient)) +
                        m_unit * std::abs(m_expected.back()));
      v_expected.push_back(beta2 * v[i] + (1 - beta2) * gradient * gradient);
      v_bound.push_back((6 * kU + v_unit) * v_expected.back());
      const double decay =
          static_cast<int64_t>(i) < half ? static_cast<double>(hyper.weight_decay) : 0;
      const double step = new_m[i] * static_cast<double>(hyper.inverse_bias1) /
                          (std::sqrt(new_v[i]) * static_cast<double>(hyper.inverse_sqrt_bias2) +
                           static_cast<double>(hyper.epsilon));
      const double direction = step + decay * master[i];
      const double rate = static_cast<double>(hyper.learning_rate);
      expected.push_back(master[i] - rate * direction);
      bound.push_back(rate * (8 * kU * std::abs(step) + kU * std::abs(direction)) +
                      (2 * kU + master_unit) * std::abs(expected.back()));
    }
    ExpectWithin(new_m, m_expected, m_bound, "m");
    ExpectWithin(new_v, v_expected, v_bound, "v");
    ExpectWithin(state.master.Get(), expected, bound, "master");
    ExpectSame(state.weight.Get(), Rounded(state.master.Get(), types.weight), "weight");
  }
}

// Forty steps in fp32 stay close to forty steps of an AdamW in double that shares nothing with it.
TEST_P(AdamwTest, ATrajectoryMatchesDoublePrecision) {
  const int64_t n = 500;
  State state(rig_, random_, n, kAllF32);
  state.m.Set(std::vector<double>(500, 0.0));
  state.v.Set(std::vector<double>(500, 0.0));
  std::vector<double> master = state.master.Get(), m(500, 0.0), v(500, 0.0);
  for (int step = 1; step <= 40; ++step) {
    std::vector<double> gradient = Rounded(random_.Normals(n), DType::kF32);
    state.gradient.Set(gradient);
    backend().Adamw(stream(), state.Args(Hyper(step), {{.begin = 0, .count = n, .decay = true}}));
    for (size_t i = 0; i < master.size(); ++i) {
      m[i] = 0.9 * m[i] + 0.1 * gradient[i];
      v[i] = 0.95 * v[i] + 0.05 * gradient[i] * gradient[i];
      const double m_hat = m[i] / (1 - std::pow(0.9, step));
      const double v_hat = v[i] / (1 - std::pow(0.95, step));
      master[i] -= 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-8) + 0.1 * master[i]);
    }
  }
  // The constants differ by 2^-24 of their value, 1 - beta2 by 2^-20; a step moves by 0.01.
  ExpectWithin(state.master.Get(), master, std::vector<double>(500, 40 * 0.01 * 1e-5), "master");
}

// The draw of an element as the design document states it, built here by hand.
uint32_t DrawByHand(uint64_t seed, uint64_t element, uint32_t step, uint32_t tensor_id,
                    uint32_t use) {
  const uint64_t group = element / 4;
  return Philox4x32(
      seed, {static_cast<uint32_t>(group & 0xffffffffu), static_cast<uint32_t>(group >> 32), step,
             tensor_id * 65536 + use * 4096})[element % 4];
}

// A value between two bf16 numbers goes up where its draw says so.
double RoundByHand(double value, uint32_t draw) {
  int exponent = 0;
  std::frexp(value, &exponent);
  const double unit = std::ldexp(1.0, exponent - 8);
  const double below = std::floor(std::abs(value) / unit);
  const double fraction = std::abs(value) / unit - below;
  const bool up = fraction * 65536 + (draw & 0xffffu) >= 65536;
  return std::copysign((below + (up ? 1 : 0)) * unit, value);
}

// Defect 3: every moment and the master draw their own numbers, fresh in every step and for every
// element of every tensor.
TEST_P(AdamwTest, DrawsFollowTheCounterLayout) {
  const int64_t n = 3000;
  const uint64_t seed = 0x123456789abcdef0u;
  for (const uint32_t step : {1u, 2u, 77'777u}) {
    State state(rig_, random_, n, {DType::kBF16, DType::kBF16, DType::kBF16, DType::kF32});
    // With beta = 0 the moments are g and g^2 and the direction is the gradient's sign.
    AdamwHyper hyper = MakeAdamwHyper(1e-3f, 0.0f, 0.0f, 1e-20f, 0.0f, seed, step);
    const std::vector<double> g = state.gradient.Get();
    const std::vector<double> master = state.master.Get();
    const int64_t first = (int64_t{1} << 34) - 1001;
    const std::vector<AdamwSegment> segments = {
        {.begin = 0, .count = 1000, .first_element = 2, .tensor_id = 3},
        {.begin = 1000, .count = 2000, .first_element = first, .tensor_id = 65535}};
    backend().Adamw(stream(), state.Args(hyper, segments));
    const auto m = state.m.Get(), v = state.v.Get(), new_master = state.master.Get();
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      const uint64_t element = static_cast<uint64_t>(i < 1000 ? i + 2 : i - 1000 + first);
      const uint32_t tensor_id = i < 1000 ? 3 : 65535;
      const auto draw = [&](uint32_t use) {
        return DrawByHand(seed, element, step, tensor_id, use);
      };
      ASSERT_EQ(m[at], RoundByHand(g[at], draw(0))) << i;
      const auto square = static_cast<float>(g[at]) * static_cast<float>(g[at]);
      ASSERT_EQ(v[at], RoundByHand(static_cast<double>(square), draw(1))) << i;
      const auto moved = static_cast<float>(
          master[at] -
          static_cast<double>(1e-3f) * static_cast<double>(static_cast<float>(m[at]) /
                                                           std::sqrt(static_cast<float>(v[at]))));
      ASSERT_EQ(new_master[at], RoundByHand(static_cast<double>(moved), draw(2))) << i;
    }
  }
}

// The mean of the rounded values over many steps is the value: five standard deviations of a
// binomial.
TEST_P(AdamwTest, StochasticRoundingIsUnbiased) {
  const int64_t n = 2048;
  const int steps = 64;
  const double value = 1.3717;  // between bf16 numbers 2^-7 apart
  const double rate = 1e-3;
  State state(rig_, random_, n, {DType::kBF16, DType::kBF16, DType::kBF16, DType::kF32});
  state.gradient.Set(std::vector<double>(n, value));
  const double g = state.gradient.Get()[0];
  double m_sum = 0, v_sum = 0, master_sum = 0;
  for (int step = 1; step <= steps; ++step) {
    state.master.Set(std::vector<double>(n, 1.0));
    const AdamwHyper hyper =
        MakeAdamwHyper(static_cast<float>(rate), 0.0f, 0.0f, 1e-20f, 0.0f, 5, step);
    backend().Adamw(stream(), state.Args(hyper, {{.begin = 0, .count = n}}));
    const auto m = state.m.Get(), v = state.v.Get(), master = state.master.Get();
    for (size_t i = 0; i < m.size(); ++i) {
      m_sum += m[i];
      v_sum += v[i];
      // The direction is m / sqrt(v), near 1 but known only from the rounded moments.
      master_sum += master[i] + rate * m[i] / std::sqrt(v[i]);
    }
  }
  const double draws = static_cast<double>(n) * steps;
  const double deviation = 0x1p-7 * 0.5 / std::sqrt(draws);
  EXPECT_LE(std::abs(m_sum / draws - g), 5 * deviation);
  EXPECT_LE(std::abs(v_sum / draws - g * g), 5 * deviation);
  EXPECT_LE(std::abs(master_sum / draws - 1.0), 5 * deviation + 1e-7);
}

// A skipped step leaves the state; the weights are what the master says.
TEST_P(AdamwTest, SkipLeavesTheState) {
  for (const Types& types : {kAllF32, kAllBF16, kDefault}) {
    State state(rig_, random_, 40'000, types);
    state.SetControl({.clip_factor = 0.5f, .skip = 1});
    const auto before = state.Written();
    backend().Adamw(stream(), state.Args(Hyper(3), {{.begin = 0, .count = 39'000}}));
    const auto after = state.Written();
    for (size_t tensor = 0; tensor < 3; ++tensor) EXPECT_TRUE(after[tensor] == before[tensor]);
    std::vector<double> expected = Rounded(state.master.Get(), types.weight);
    std::fill(expected.begin() + 39'000, expected.end(), NAN);  // padding, poisoned
    ExpectSame(state.weight.Get(), expected, "weight");
    AdamwArgs without = state.Args(Hyper(3), {{.begin = 0, .count = 40'000}});
    without.weight = {};
    backend().Adamw(stream(), without);
    EXPECT_TRUE(state.Written() == after);
  }
}

// The words are read by the work on the stream, not when it is enqueued.
TEST_P(AdamwTest, ReadsTheControlWordsOnTheStream) {
  State state(rig_, random_, 100, kAllF32);
  State skipping(rig_, random_, 1, kAllF32);
  skipping.SetControl({.skip = 1});
  const std::vector<uint8_t> before = state.master.GetBytes();
  backend().Copy(stream(), {.source = skipping.control, .destination = state.control});
  backend().Adamw(stream(), state.Args(Hyper(3), {{.begin = 0, .count = 100}}));
  EXPECT_TRUE(state.master.GetBytes() == before);
}

TEST_P(AdamwTest, PaddingStaysAsItIs) {
  State state(rig_, random_, 4000, kAllBF16);
  const std::vector<std::vector<double>> before = {state.master.Get(), state.m.Get(),
                                                   state.v.Get()};
  backend().Adamw(stream(), state.Args(Hyper(3), {{.begin = 10, .count = 990},
                                                  {.begin = 1000, .count = 0},
                                                  {.begin = 2000, .count = 1500}}));
  const std::vector<std::vector<double>> after = {state.master.Get(), state.m.Get(), state.v.Get()};
  const std::vector<double> weight = state.weight.Get();
  for (size_t i = 0; i < 4000; ++i) {
    const bool padding = i < 10 || (i >= 1000 && i < 2000) || i >= 3500;
    EXPECT_EQ(std::isnan(weight[i]), padding) << i;
    for (size_t tensor = 0; tensor < 3 && padding; ++tensor) {
      EXPECT_EQ(after[tensor][i], before[tensor][i]) << i;
    }
  }
}

// A segment cut anywhere, as a shard boundary does, is updated to the same bits.
TEST_P(AdamwTest, CuttingASegmentChangesNothing) {
  Rig other(GetParam());
  const std::vector<double> values = random_.Normals(3001);
  State whole(rig_, random_, 3001, kAllBF16);
  State cut(other, random_, 3001, kAllBF16);
  for (State* state : {&whole, &cut}) {
    state->master.Set(values);
    state->m.Set(values);
    state->v.Set(std::vector<double>(3001, 0.01));
    state->gradient.Set(values);
  }
  const int64_t at = random_.Integer(1, 3000);
  backend().Adamw(
      stream(),
      whole.Args(
          Hyper(9),
          {{.begin = 0, .count = 3001, .first_element = 50, .tensor_id = 8, .decay = true}}));
  const std::vector<AdamwSegment> pieces = {
      {.begin = 0, .count = at, .first_element = 50, .tensor_id = 8, .decay = true},
      {.begin = at, .count = 3001 - at, .first_element = 50 + at, .tensor_id = 8, .decay = true}};
  other.backend().Adamw(other.stream(), cut.Args(Hyper(9), pieces));
  EXPECT_TRUE(cut.Written() == whole.Written());
}

TEST_P(AdamwTest, NothingDependsOnTheNumberOfThreads) {
  const std::vector<double> values = random_.Normals(70'000);
  std::vector<std::vector<uint8_t>> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    State state(rig, random_, 70'000, kDefault);
    state.master.Set(values);
    state.m.Set(values);
    state.v.Set(std::vector<double>(70'000, 0.25));
    state.gradient.Set(values);
    rig.backend().Adamw(rig.stream(), state.Args(Hyper(4), {{.begin = 0, .count = 70'000}}));
    if (first.empty()) first = state.Written();
    EXPECT_TRUE(state.Written() == first) << threads << " threads";
  }
}

TEST_P(AdamwTest, RefusesWrongArguments) {
  const State state(rig_, random_, 100, kDefault);
  const AdamwArgs good = state.Args(Hyper(1), {{.begin = 0, .count = 100}});
  EXPECT_NO_THROW(Validate(good));
  const auto refuses = [&](const std::function<void(AdamwArgs&)>& change) {
    AdamwArgs args = good;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.master = {}; });
  refuses([](auto& args) { args.m = {}; });
  refuses([](auto& args) { args.v = {}; });
  refuses([](auto& args) { args.gradient = {}; });
  refuses([](auto& args) { args.control = {}; });
  refuses([](auto& args) { args.m = args.m.Flat(0, 99); });
  refuses([](auto& args) { args.weight = args.weight.Flat(0, 99); });
  refuses([](auto& args) { args.master = args.master.Reshape({10, 10}); });
  refuses([](auto& args) { args.weight = args.gradient; });
  refuses([](auto& args) { args.m = args.v; });
  refuses([](auto& args) { args.gradient = args.v; });
  refuses([](auto& args) { args.control = args.control.Flat(0, 1); });
  refuses(
      [](auto& args) { args.gradient = TensorView(args.gradient.data(), DType::kF8E4M3, {100}); });
  refuses([](auto& args) { args.segments = {{.begin = 0, .count = 101}}; });
  refuses([](auto& args) { args.segments = {{.begin = -1, .count = 2}}; });
  refuses([](auto& args) { args.segments = {{.begin = 0, .count = -1}}; });
  refuses([](auto& args) { args.segments = {{.begin = 1, .count = INT64_MAX}}; });
  refuses([](auto& args) {
    args.segments = {{.begin = 50, .count = 5}, {.begin = 0, .count = 5}};
  });
  refuses([](auto& args) { args.segments = {{.begin = 0, .count = 5}, {.begin = 4, .count = 5}}; });
  refuses([](auto& args) { args.segments = {{.count = 5, .first_element = -4}}; });
  refuses([](auto& args) { args.segments = {{.count = 5, .tensor_id = 65536}}; });
  refuses([](auto& args) { args.hyper.step = 0; });
  refuses([](auto& args) { args.hyper.beta1 = 1.0f; });
  refuses([](auto& args) { args.hyper.beta2 = -0.1f; });
  refuses([](auto& args) { args.hyper.epsilon = 0; });
  refuses([](auto& args) { args.hyper.learning_rate = NAN; });
  refuses([](auto& args) { args.hyper.weight_decay = INFINITY; });
}

INSTANTIATE_TEST_SUITE_P(Backends, AdamwTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
