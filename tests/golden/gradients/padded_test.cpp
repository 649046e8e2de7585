// Fine-tuning as a whole: chats prepared with a tokenizer, masked and packed, against PyTorch on
// the same chats, each a padded row of its own (make_chat_goldens.py).
#include <gtest/gtest.h>

#include "runtime/data/prepare.h"
#include "runtime/data/token_file.h"
#include "tests/golden/gradients/golden_run.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

constexpr int64_t kMaxLength = 96;  // of a chat, as when the goldens were made

const std::filesystem::path kFolder =
    std::filesystem::path(HEARTH_SOURCE_DIR) / "tests/golden/chat";

// Loss and gradients of all chats in one step, packed into samples of that length.
Tensors ChatGradients(int64_t pack, const char* precision) {
  const TemporaryFolder folder;
  PrepareOptions options;
  options.inputs = {(kFolder / "chats.jsonl").string()};
  options.output = (folder.path() / "chats.hearth").string();
  options.tokenizer = (kFolder / "model").string();
  options.max_length = kMaxLength;
  options.pack = pack;
  Prepare(options);
  GoldenRun run{.model = kFolder / "model",
                .data = options.output,
                .sequence_len = pack,
                .keys = {{"precision", std::string("compute_dtype: ") + precision}}};
  run.samples = (TokenFile::Open(options.output)->token_count() - 1) / pack;
  run.micro_batch_size = 2;
  Tensors tensors = HearthGradients(run);
  tensors.erase("logits");  // lie otherwise in a pack
  return tensors;
}

class PaddedGolden : public testing::TestWithParam<int64_t> {
 protected:
  static void ExpectClose(const Tensors& ours, double bound) {
    Tensors expected = ReadTensors(kFolder / "expected-padded.safetensors");
    ASSERT_EQ(expected.at("rows"), std::vector<float>{24});
    expected.erase("rows");
    expected.erase("targets");
    ASSERT_EQ(ours.size(), expected.size());
    for (const auto& [name, values] : expected) {
      const double error = RelativeError(ours.at(name), values);
      EXPECT_FALSE(!(error <= bound)) << name << ": relative error " << error;
    }
  }
};

TEST_P(PaddedGolden, Fp32) { ExpectClose(ChatGradients(GetParam(), "fp32"), 1e-5); }

TEST_P(PaddedGolden, Bf16) { ExpectClose(ChatGradients(GetParam(), "bf16"), 0.10); }

// Samples of the longest chat's length, and such that several chats share one.
INSTANTIATE_TEST_SUITE_P(Samples, PaddedGolden, testing::Values(96, 200),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace hearth::test
