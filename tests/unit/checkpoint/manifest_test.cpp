// manifest.json: read back as written, and refused, never believed, when anything is wrong.

#include "runtime/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

CheckpointManifest Example() {
  CheckpointManifest manifest;
  manifest.info = {.hearth_version = "1.2.3",
                   .step = 17,
                   .skipped_steps = 2,
                   .world = 2,
                   .seed = -5,
                   .data_seed = 43,
                   .sequence_len = 24,
                   .global_batch_size = 8,
                   .numeric = {.micro_batch_size = 4,
                               .head_slab_tokens = 16,
                               .reduction_order = ReductionOrder::kRankThenMicro},
                   .types = {.master = DType::kF32, .m = DType::kBF16, .v = DType::kF32},
                   .config_hash = Xxh3Hash128("config"),
                   .model_folder = "/models/\"quoted\"\n",
                   .shards = {{"a.hearth", 100, Xxh3Hash128("a")}, {"b", 0, {}}},
                   .fp8_amax = {0.1f, 0.0f, 3.4e38f, 1e-44f, 2.5f},
                   .precision = {{"fp8_lm_head", "true"}, {"compute_dtype", "fp8"}}};
  manifest.files = {{"config.json", 10, Xxh3Hash128("x")}, {"state-0.safetensors", 96, {}}};
  CheckpointParameter matrix{.name = "embedding", .shape = {3, 4}};
  for (auto& pieces : matrix.pieces) pieces = {{1, "e", 0, 5}, {0, "f", 5, 7}};
  CheckpointParameter vector{.name = "norm", .shape = {6}};
  for (auto& pieces : vector.pieces) pieces = {{1, "n", 0, 6}};
  manifest.parameters = {matrix, vector};
  return manifest;
}

// The text with the first `from` replaced.
std::string Replace(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

std::string Refusal(const std::string& text) {
  try {
    ParseManifest(text, "manifest.json");
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(Manifest, ReadsBackWhatWasWritten) {
  const CheckpointManifest written = Example();
  const CheckpointManifest read = ParseManifest(ManifestText(written), "manifest.json");
  const CheckpointInfo& info = read.info;
  EXPECT_EQ(info.hearth_version, "1.2.3");
  EXPECT_EQ(info.step, 17);
  EXPECT_EQ(info.skipped_steps, 2);
  EXPECT_EQ(info.world, 2);
  EXPECT_EQ(info.seed, -5);
  EXPECT_EQ(info.data_seed, 43);
  EXPECT_EQ(info.sequence_len, 24);
  EXPECT_EQ(info.global_batch_size, 8);
  EXPECT_EQ(info.numeric, written.info.numeric);
  EXPECT_EQ(info.types, written.info.types);
  EXPECT_EQ(info.config_hash, Xxh3Hash128("config"));
  EXPECT_EQ(info.model_folder, "/models/\"quoted\"\n");
  EXPECT_EQ(info.shards, written.info.shards);
  EXPECT_EQ(info.fp8_amax, written.info.fp8_amax);
  EXPECT_EQ(info.precision, written.info.precision);
  EXPECT_EQ(read.files, written.files);
  ASSERT_EQ(read.parameters.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read.parameters[i].name, written.parameters[i].name);
    EXPECT_EQ(read.parameters[i].shape, written.parameters[i].shape);
    EXPECT_EQ(read.parameters[i].pieces, written.parameters[i].pieces);
  }
  EXPECT_EQ(ManifestText(read), ManifestText(written));
}

TEST(Manifest, RefusesWhatCannotBe) {
  const std::string good = ManifestText(Example());
  ASSERT_EQ(Refusal(good), "");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\"version\": 1", "\"version\": 2"},
      {"\"hearth-checkpoint\"", "\"other\""},
      {"\"state-0.safetensors\"", "\"../state-0.safetensors\""},
      {"\"state-0.safetensors\"", "\"/etc/passwd\""},
      {"\"state-0.safetensors\"", "\".hidden\""},
      {"\"state-0.safetensors\"", "\"manifest.json\""},
      {"\"state-0.safetensors\"", "\"config.json\""},
      {"\"state-0.safetensors\"", "\"\""},
      {"\"state-0.safetensors\"", "\"a\\u0000b\""},
      {"\"begin\": 5", "\"begin\": 4"},
      {"\"begin\": 5", "\"begin\": -5"},
      {"\"count\": 7", "\"count\": 8"},
      {"\"count\": 7", "\"count\": 6"},
      {"\"count\": 7", "\"count\": 9223372036854775807"},
      {"\"file\": 1", "\"file\": 2"},
      {"\"file\": 1", "\"file\": -1"},
      {"\"bytes\": 96", "\"bytes\": -96"},
      {"\"bytes\": 96", "\"bytes\": 1e30"},
      {" 2.5\n", " -2.5\n"},
      {"\"fp8_lm_head\": \"true\"", "\"fp8_lm_head\": true"},
      {" 2.5\n", " 3.5e38\n"},
      {" 2.5\n", " \"2.5\"\n"},
      {"\"step\": 17", "\"step\": -1"},
      {"\"step\": 17", "\"step\": 17.5"},
      {"\"step\": 17", "\"step\": 17, \"step\": 18"},
      {"\"f32\"", "\"f64\""},
      {"\"rank_then_micro\"", "\"auto\""},
      {"\"micro_batch_size\": 4", "\"micro_batch_size\": 0"},
      {"\"world\": 2", "\"world\": 0"},
  };
  for (const auto& [from, to] : cases) {
    const std::string refusal = Refusal(Replace(good, from, to));
    EXPECT_TRUE(refusal.starts_with("manifest.json")) << from << " -> " << to << ": " << refusal;
  }
  const std::string shape = "\"shape\": [\n    3,\n    4\n   ]";
  EXPECT_NE(Refusal(Replace(good, shape, "\"shape\": [1099511627776, 1099511627776]")), "");
  EXPECT_NE(Refusal(Replace(good, shape, "\"shape\": []")), "");
  EXPECT_NE(Refusal(Replace(good, shape, "\"shape\": [3, 0]")), "");
}

TEST(Manifest, AnyChangedByteIsFound) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / kManifestName;
  const std::string good = ManifestText(Example());
  std::ofstream(file, std::ios::binary) << good;
  EXPECT_EQ(ReadManifest(file).info.step, 17);
  for (size_t i = 0; i < good.size(); i += 5) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bad;
    EXPECT_THROW(ReadManifest(file), IoError) << "byte " << i;
  }
  for (size_t size = 0; size < good.size(); size += 31) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << good.substr(0, size);
    EXPECT_THROW(ReadManifest(file), IoError) << size << " bytes";
  }
}

// Whatever the text, it is read or refused.
TEST(Manifest, RandomMutationsAreReadOrRefused) {
  const std::string good = ManifestText(Example());
  const std::string letters = "0123456789-+.eE\"{}[],: \n\\/truefalsnu\x80\xff";
  std::mt19937 random(7);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    const size_t changes = 1 + below(4);
    for (size_t change = 0; change < changes; ++change) {
      const size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = letters[below(letters.size())];
          break;
        case 1:
          text.insert(at, 1, letters[below(letters.size())]);
          break;
        case 2:
          text.erase(at, 1 + below(40));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(60)));
          break;
      }
      if (text.empty()) text = "{";
    }
    refused += Refusal(text).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 10'000);
  EXPECT_LT(refused, 20'000);  // some change only a name
}

}  // namespace
}  // namespace hearth
