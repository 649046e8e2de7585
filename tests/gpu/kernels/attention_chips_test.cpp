// Attention's tiles for every chip, on the GPU that is there: other chips have less shared memory
// or fewer multiprocessors, for which other tiles are taken.
#include <cmath>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_native.h"
#include "tests/kernels/attention/attention_tensors.h"

namespace hearth::test {
namespace {

struct Tiles {
  const char* name;
  GpuChip chip;
};

// So many multiprocessors that any work is little for them, and none, for which it is much.
constexpr int kLittleWork = 1 << 20, kMuchWork = 0;
constexpr Tiles kTiles[] = {
    {"A100, little work", {80, kLittleWork}},      {"A100", {80, kMuchWork}},
    {"RTX 4090, little work", {89, kLittleWork}},  {"RTX 4090", {89, kMuchWork}},
    {"H100, little work", {90, kLittleWork}},      {"H100", {90, kMuchWork}},
    {"RTX 5090, little work", {120, kLittleWork}}, {"RTX 5090", {120, kMuchWork}}};

class AttentionChipsTest : public testing::TestWithParam<Tiles> {
 protected:
  AttentionCase Case(int64_t heads, int64_t kv_heads, int64_t head_dim,
                     std::vector<int32_t> offsets, int64_t tokens) const {
    return {.shape = {.heads = heads,
                      .kv_heads = kv_heads,
                      .head_dim = head_dim,
                      .softmax_scale = 1.0f / std::sqrt(static_cast<float>(head_dim))},
            .offsets = std::move(offsets),
            .tokens = tokens,
            .dtype = DType::kBF16,
            .factor_roundoff = UnitRoundoff(DType::kBF16)};
  }
  // Forward and backward with the chip's tiles.
  void Run(AttentionTensors& tensors) {
    const cudaStream_t stream = NativeStream(rig_.stream());
    TiledAttentionForward(stream, GetParam().chip, tensors.forward());
    TiledAttentionBackward(stream, GetParam().chip, tensors.backward());
    rig_.Finish();
  }
  void ExpectRight(const AttentionCase& c) {
    ExpectAttention(rig_, random_, c, 1.0, [this](AttentionTensors& tensors) { Run(tensors); });
  }

  Rig rig_{"cuda"};
  Random random_;
};

TEST_P(AttentionChipsTest, EqualsTheFormulas) {
  for (const int64_t head_dim : {64, 128}) {
    for (const int32_t length : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 260}) {
      SCOPED_TRACE(Format("{} tokens, heads of {}", length, head_dim));
      ExpectRight(Case(2, 1, head_dim, {0, length}, length));
    }
    // Several query heads to a key's, sequences of many lengths, some empty, and padding.
    SCOPED_TRACE(Format("packed, heads of {}", head_dim));
    ExpectRight(Case(6, 2, head_dim, {0, 70, 71, 71, 201, 204, 404, 404, 404}, 411));
    ExpectRight(Case(3, 3, head_dim, {0, 300, 301, 420}, 420));
    ExpectRight(Case(7, 1, head_dim, {0, 513}, 520));
  }
}

TEST_P(AttentionChipsTest, SameBitsAgain) {
  for (const int64_t head_dim : {64, 128}) {
    SCOPED_TRACE(head_dim);
    AttentionTensors tensors(rig_, random_, Case(6, 2, head_dim, {0, 300, 333, 800}, 801));
    Run(tensors);
    const std::vector<uint8_t> out = tensors.out.GetBytes();
    const std::vector<uint8_t> d_qkv = tensors.d_qkv.GetBytes();
    for (DeviceTensor* tensor : {&tensors.out, &tensors.d_qkv, &tensors.workspace}) {
      tensor->Poison();
    }
    Run(tensors);
    EXPECT_TRUE(out == tensors.out.GetBytes());
    EXPECT_TRUE(d_qkv == tensors.d_qkv.GetBytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Chips, AttentionChipsTest, testing::ValuesIn(kTiles),
                         [](const testing::TestParamInfo<Tiles>& tiles) {
                           std::string name = tiles.param.name;
                           std::erase_if(name, [](char c) { return c == ' ' || c == ','; });
                           return name;
                         });

}  // namespace
}  // namespace hearth::test
