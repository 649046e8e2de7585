// Documents of one sample do not see each other: not by one bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "runtime/config/resolved_config.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/model/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr int64_t kSequence = 48;
constexpr int32_t kVocabulary = 50;

using Documents = std::vector<std::vector<int32_t>>;

std::vector<int32_t> RandomTokens(int64_t count, uint32_t seed) {
  std::minstd_rand generator(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(generator() % kVocabulary);
  return tokens;
}

// Logits [kSequence, vocabulary] of the one sample that the documents make.
std::vector<float> LogitsOf(const Documents& documents, const std::string& precision) {
  const TemporaryFolder folder;
  const std::string data = (folder.path() / "data.hearth").string();
  HearthWriter writer({.path = data, .has_loss_mask = true});
  for (const std::vector<int32_t>& document : documents) {
    writer.EndDocument();
    writer.Append(document, std::vector<uint8_t>(document.size(), 1));
  }
  writer.EndDocument();
  writer.Append(std::vector<int32_t>{0}, std::vector<uint8_t>{0});
  writer.Finish();
  std::ofstream(folder.path() / "model.yaml") << SmallModel();
  const std::string text = fmt::format(
      "output_dir: {0}/out\nmodel: {{name_or_path: {0}/model.yaml}}\n"
      "data: {{datasets: [{{path: {1}}}], sequence_len: {2}}}\n"
      "training: {{global_batch_size: 1, micro_batch_size: 1}}\n"
      "precision: {{compute_dtype: {3}}}\n",
      folder.path().string(), data, kSequence, precision);
  const ResolvedConfig resolved = ParseConfig({.text = text, .file_name = "run.yaml"});
  const std::filesystem::path out = folder.path() / "gradients.safetensors";
  WriteGradients(resolved, 1, out, /*with_logits=*/true);
  const SafetensorsFile file(out);
  const auto logits = std::ranges::find(file.tensors(), "logits", &SafetensorsTensor::name);
  std::vector<float> values(static_cast<size_t>(logits->elements()));
  file.ReadFloats(*logits, 0, values);
  return values;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b, int64_t begin,
              int64_t end) {
  const auto row = static_cast<int64_t>(a.size()) / kSequence;
  return std::memcmp(a.data() + begin * row, b.data() + begin * row,
                     static_cast<size_t>((end - begin) * row) * sizeof(float)) == 0;
}

class Isolation : public testing::TestWithParam<std::string> {};

TEST_P(Isolation, ANeighboursTokensChangeNoBit) {
  for (uint32_t round = 1; round <= 6; ++round) {
    const int64_t first = 5 + 3 * round;
    const int64_t second = 4 + round;
    const Documents documents = {RandomTokens(first, round), RandomTokens(second, 10 * round),
                                 RandomTokens(kSequence - first - second, 100 * round)};
    const std::vector<float> logits = LogitsOf(documents, GetParam());
    for (size_t changed = 0; changed < documents.size(); ++changed) {
      Documents others = documents;
      others[changed] = RandomTokens(std::ssize(documents[changed]), 1000 * round + 7);
      const std::vector<float> again = LogitsOf(others, GetParam());
      ASSERT_EQ(again.size(), logits.size());
      int64_t begin = 0;
      for (size_t i = 0; i < documents.size(); ++i) {
        const int64_t end = begin + std::ssize(documents[i]);
        EXPECT_EQ(SameBits(logits, again, begin, end), i != changed)
            << "document " << i << " when " << changed << " changes, round " << round;
        begin = end;
      }
    }
  }
}

// The same documents as one: then they do see each other, so that the test above can fail.
TEST_P(Isolation, WithoutABoundaryTheNextDocumentChanges) {
  const std::vector<int32_t> first = RandomTokens(20, 1);
  const std::vector<int32_t> other = RandomTokens(20, 2);
  const std::vector<int32_t> rest = RandomTokens(kSequence - 20, 3);
  std::vector<int32_t> joined = first;
  joined.insert(joined.end(), rest.begin(), rest.end());
  const std::vector<float> logits = LogitsOf({joined}, GetParam());
  std::copy(other.begin(), other.end(), joined.begin());
  EXPECT_FALSE(SameBits(logits, LogitsOf({joined}, GetParam()), 20, kSequence));
}

INSTANTIATE_TEST_SUITE_P(Precision, Isolation, testing::Values("fp32", "bf16"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hearth::test
