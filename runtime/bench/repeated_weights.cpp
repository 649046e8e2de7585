#include "runtime/bench/repeated_weights.h"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace hearth {

namespace {

constexpr uint64_t kSeed = 42;
// A prime, so that rows of no matrix are alike.
constexpr int64_t kDrawn = (int64_t{1} << 20) - 3;

// out[i] = block[(begin + i) % block] * scale.
void Repeat(const std::vector<float>& block, int64_t begin, float scale, std::span<float> out) {
  size_t at = static_cast<size_t>(begin) % block.size();
  for (size_t i = 0; i < out.size();) {
    const size_t count = std::min(block.size() - at, out.size() - i);
    for (size_t j = 0; j < count; ++j) out[i + j] = block[at + j] * scale;
    i += count;
    at = 0;
  }
}

}  // namespace

WeightReader RepeatedWeights(const ModelSpec& spec) {
  std::mt19937_64 random(kSeed);
  std::normal_distribution<float> normal;
  const auto block = std::make_shared<std::vector<float>>(static_cast<size_t>(kDrawn));
  for (float& value : *block) value = normal(random);
  return [&spec, block](size_t index, int64_t begin, std::span<float> out) {
    const Init& init = spec.parameters[index].init;
    if (init.kind != Init::Kind::kNormal) {
      std::ranges::fill(out, init.kind == Init::Kind::kOnes ? 1.0f : 0.0f);
      return;
    }
    const int64_t place = static_cast<int64_t>(index) * (kDrawn / 7) + begin;
    Repeat(*block, place, static_cast<float>(init.std), out);
  };
}

}  // namespace hearth
