#include "runtime/model/initialization.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <numbers>
#include <span>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

std::vector<float> All(const ParameterSpec& parameter, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(parameter.stored_elements), 7.0f);
  InitialValues(parameter, seed, 0, values);
  return values;
}

// A model whose embedding is large enough for statistics.
ModelSpec WideModel() {
  ModelConfig config = SmallModel(ModelFamily::kQwen2, false);
  config.vocab_size = 5001;
  config.hidden_size = 128;
  config.initializer_range = 0.03;
  return BuildModelSpec(config);
}

TEST(PortableMath, LogarithmAgreesWithTheLibrary) {
  for (int i = 0; i < 200000; ++i) {
    const double value =
        (static_cast<double>(Philox4x32(1, {static_cast<uint32_t>(i)})[0]) + 0.5) * 0x1p-32;
    const double expected = std::log(value);
    const double error = std::abs(internal::PortableLog(value) - expected);
    ASSERT_TRUE(error <= 4e-16 * std::max(1.0, std::abs(expected))) << value;
  }
  EXPECT_EQ(internal::PortableLog(1.0), 0.0);
  EXPECT_TRUE(std::abs(internal::PortableLog(0x1p-33) + 33.0 * std::numbers::ln2) <= 8e-15);
}

TEST(PortableMath, SineAndCosineAgreeWithTheLibrary) {
  const auto check = [](uint32_t turns) {
    // Long double, since 2*pi*turns in double already loses what is measured.
    const long double angle = 2.0L * std::numbers::pi_v<long double> * turns * 0x1p-32L;
    const internal::SineCosine value = internal::PortableSineCosine(turns);
    ASSERT_TRUE(std::abs(value.sine - std::sin(angle)) <= 4e-16L) << turns;
    ASSERT_TRUE(std::abs(value.cosine - std::cos(angle)) <= 4e-16L) << turns;
  };
  for (uint32_t i = 0; i < 200000; ++i) check(Philox4x32(2, {i})[0]);
  // Around the bounds between which another quarter turn is the nearest.
  for (uint32_t eighth = 0; eighth < 8; ++eighth) {
    for (uint32_t offset : {0u, 1u, ~0u}) check((eighth << 29) + offset);
  }
}

// FNV-1a of the bits.
uint64_t HashOf(std::span<const float> values) {
  uint64_t hash = 0xcbf29ce484222325;
  for (float value : values) hash = (hash ^ std::bit_cast<uint32_t>(value)) * 0x100000001b3;
  return hash;
}

// What a run starts from never changes: hashes of the values as the first version drew them, one at
// a time.
TEST(InitialValues, AreThoseOfTheFirstVersion) {
  const ModelSpec spec = WideModel();
  EXPECT_EQ(HashOf(All(spec.parameters.front(), 42)), 0xf5c2dbcdb32908cfu);
  EXPECT_EQ(HashOf(All(*spec.Find(2, ParameterRole::kGateUpWeight), 99)), 0x8566d5cc8b77ecd6u);
  EXPECT_EQ(HashOf(All(spec.HeadMatrix(), uint64_t{1} << 63)), 0x23be252ecdd2738eu);
}

// The whole path once more from the published definitions, with the C library's functions.
TEST(InitialValues, AreBoxMullerOfTheElementsDraws) {
  const ModelSpec spec = WideModel();
  const ParameterSpec& parameter = *spec.Find(2, ParameterRole::kGateUpWeight);
  const std::vector<float> values = All(parameter, 99);
  for (uint32_t element = 0; element < 3000; ++element) {
    const uint32_t word = static_cast<uint32_t>(parameter.tensor_id) << 16 |
                          static_cast<uint32_t>(RandomUse::kInitialization) << 12;
    const Philox4 draws = Philox4x32(99, {element / 4, 0, 0, word});
    const size_t pair = element % 4 / 2 * 2;
    const double radius = std::sqrt(-2.0 * std::log((draws[pair] + 0.5) / 4294967296.0));
    const double angle = 2.0 * std::numbers::pi * draws[pair + 1] / 4294967296.0;
    const double expected = 0.03 * radius * (element % 2 ? std::sin(angle) : std::cos(angle));
    ASSERT_TRUE(std::abs(values[element] - expected) <= 1e-7 * std::abs(expected) + 1e-15)
        << element;
  }
}

TEST(InitialValues, DoNotDependOnTheRangeThatIsAsked) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, false));
  for (const ParameterSpec& parameter : spec.parameters) {
    const std::vector<float> whole = All(parameter, 5);
    for (int64_t begin : {0, 1, 2, 3, 5, 11}) {
      for (int64_t count : {0, 1, 2, 3, 4, 7, 9}) {
        std::vector<float> part(static_cast<size_t>(count), 7.0f);
        InitialValues(parameter, 5, begin, part);
        for (int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(part[static_cast<size_t>(i)]),
                    std::bit_cast<uint32_t>(whole[static_cast<size_t>(begin + i)]))
              << parameter.name << " " << begin << " + " << i;
        }
      }
    }
  }
}

TEST(InitialValues, PaddingRowsAreZero) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, false));
  const std::vector<float> values = All(spec.HeadMatrix(), 1);
  ASSERT_EQ(values.size(), 48u * 20u);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i] == 0.0f, i >= 37u * 20u) << i;
  // A range that straddles the end of the logical rows.
  std::vector<float> edge(8, 7.0f);
  InitialValues(spec.HeadMatrix(), 1, 37 * 20 - 3, edge);
  for (size_t i = 0; i < edge.size(); ++i) EXPECT_EQ(edge[i] == 0.0f, i >= 3) << i;
}

TEST(InitialValues, NormsAreOneAndBiasesZero) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen2, true));
  for (float value : All(*spec.Find(1, ParameterRole::kQkvBias), 1)) EXPECT_EQ(value, 0.0f);
  for (float value : All(*spec.Find(1, ParameterRole::kNorm2), 1)) EXPECT_EQ(value, 1.0f);
  for (float value : All(*spec.Find(3, ParameterRole::kFinalNorm), 1)) EXPECT_EQ(value, 1.0f);
}

// Moments of 640,128 values against those of a normal distribution, six standard errors wide.
TEST(InitialValues, AreNormal) {
  const ModelSpec spec = WideModel();
  const ParameterSpec& parameter = spec.parameters.front();
  const std::vector<float> values = All(parameter, 42);
  const auto count = static_cast<double>(parameter.elements());
  double sums[5] = {};
  double largest = 0.0;
  for (int64_t i = 0; i < parameter.elements(); ++i) {
    const double z = values[static_cast<size_t>(i)] / 0.03;
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(z, power);
    largest = std::max(largest, std::abs(z));
  }
  const double error = 6.0 / std::sqrt(count);
  EXPECT_TRUE(std::abs(sums[1] / count) <= error);
  EXPECT_TRUE(std::abs(sums[2] / count - 1.0) <= error * std::sqrt(2.0));
  EXPECT_TRUE(std::abs(sums[3] / count) <= error * std::sqrt(15.0));
  EXPECT_TRUE(std::abs(sums[4] / count - 3.0) <= error * std::sqrt(96.0));
  EXPECT_GT(largest, 4.0);
  EXPECT_LT(largest, 6.8);  // sqrt(2 ln 2^33)
}

// Neighbours, the two values of a pair, tensors and seeds are uncorrelated.
TEST(InitialValues, AreIndependent) {
  const ModelSpec spec = WideModel();
  const std::vector<float> base = All(spec.parameters.front(), 42);
  const auto count = static_cast<size_t>(spec.parameters.front().elements());
  const auto correlation = [&](const std::vector<float>& other, size_t lag) {
    double sum = 0.0;
    for (size_t i = 0; i + lag < count; ++i) sum += double{base[i]} * double{other[i + lag]};
    return sum / (static_cast<double>(count) * 0.03 * 0.03);
  };
  const double bound = 6.0 / std::sqrt(static_cast<double>(count));
  for (size_t lag : {1u, 2u, 3u, 4u, 128u, 1024u}) {
    EXPECT_TRUE(std::abs(correlation(base, lag)) <= bound) << lag;
  }
  EXPECT_TRUE(std::abs(correlation(All(spec.HeadMatrix(), 42), 0)) <= bound);
  EXPECT_TRUE(std::abs(correlation(All(spec.parameters.front(), 43), 0)) <= bound);
  EXPECT_GT(correlation(base, 0), 0.9);
}

// Layers of equal shape do not start equal, and the same model does whatever else it contains.
TEST(InitialValues, DependOnTensorAndSeedOnly) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  ModelConfig deeper_config = spec.config;
  deeper_config.num_layers = 5;
  deeper_config.tie_word_embeddings = false;
  const ModelSpec deeper = BuildModelSpec(deeper_config);
  const auto down = [](const ModelSpec& model, int layer, uint64_t seed) {
    return All(*model.Find(model.block_unit(layer), ParameterRole::kDownWeight), seed);
  };
  EXPECT_EQ(down(spec, 1, 8), down(deeper, 1, 8));
  EXPECT_NE(down(spec, 0, 8), down(spec, 1, 8));
  EXPECT_NE(down(spec, 0, 8), down(spec, 0, 9));
}

TEST(InitialValues, RefuseARangeOutsideTheTensor) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  std::vector<float> values(10);
  EXPECT_THROW(InitialValues(spec.parameters.front(), 1, 48 * 20 - 9, values), CheckError);
  EXPECT_THROW(InitialValues(spec.parameters.front(), 1, -1, values), CheckError);
}

}  // namespace
}  // namespace hearth
