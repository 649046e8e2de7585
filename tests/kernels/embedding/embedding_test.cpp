// The embedding and its gradient against plain loops.
#include "kernels/api/embedding.h"

#include <cmath>
#include <functional>

#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

size_t At(int64_t index) { return static_cast<size_t>(index); }

class EmbeddingTest : public KernelTest {
 protected:
  // Ids that repeat often, one in eight padding.
  std::vector<double> Tokens(int64_t count, int64_t vocab) {
    std::vector<double> tokens(At(count));
    for (double& token : tokens) {
      const int64_t draw = random_.Integer(0, 7);
      token = draw == 0
                  ? static_cast<double>(random_.Integer(-3, -1))
                  : static_cast<double>(random_.Integer(0, draw < 4 ? vocab / 10 : vocab - 1));
    }
    return tokens;
  }
};

TEST_P(EmbeddingTest, ForwardCopiesRows) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const auto& [count, columns] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1000, 7}, {65, 520}}) {
      const DeviceTensor table = NormalTensor(storage, {50, columns});
      const DeviceTensor tokens(rig_, DType::kI32, {count}, Tokens(count, 50));
      const DeviceTensor out(rig_, storage, {count, columns});
      backend().EmbeddingForward(stream(), {.tokens = tokens, .table = table, .out = out});
      const std::vector<double> ids = tokens.Get();
      const std::vector<double> rows = table.Get();
      std::vector<double> expected(At(count * columns), 0.0);
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t c = 0; c < columns && ids[At(i)] >= 0; ++c) {
          expected[At(i * columns + c)] = rows[At(static_cast<int64_t>(ids[At(i)]) * columns + c)];
        }
      }
      ExpectSame(out.Get(), expected, "out");
    }
  }
}

// Exactly the promised order: the fp32 sum in rising position, then one rounding.
TEST_P(EmbeddingTest, BackwardSumsInTheOrderOfPositions) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType accumulator : {DType::kF32, DType::kBF16}) {
      for (const auto& [count, columns] :
           std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3000, 7}, {300, 520}}) {
        SCOPED_TRACE(Format("{} {} {}", count, columns, Name(accumulator)));
        const int64_t vocab = 61;
        const DeviceTensor tokens(rig_, DType::kI32, {count}, Tokens(count, vocab));
        const DeviceTensor d_out = NormalTensor(storage, {count, columns});
        const DeviceTensor d_table = NormalTensor(accumulator, {vocab, columns});
        const DeviceTensor workspace(rig_, DType::kU8, {EmbeddingBackwardWorkspaceBytes(count)});
        const std::vector<double> before = d_table.Get();
        backend().EmbeddingBackward(
            stream(),
            {.tokens = tokens, .d_out = d_out, .d_table = d_table, .workspace = workspace});
        const std::vector<double> ids = tokens.Get();
        const std::vector<double> d = d_out.Get();
        std::vector<float> sum(before.size(), 0.0f);
        std::vector<double> exact = before, magnitude(before.size());
        std::vector<bool> used(before.size(), false);
        for (int64_t i = 0; i < count; ++i) {
          if (ids[At(i)] < 0) continue;
          for (int64_t c = 0; c < columns; ++c) {
            const size_t at = At(static_cast<int64_t>(ids[At(i)]) * columns + c);
            sum[at] += static_cast<float>(d[At(i * columns + c)]);
            exact[at] += d[At(i * columns + c)];
            magnitude[at] += std::abs(d[At(i * columns + c)]);
            used[at] = true;
          }
        }
        std::vector<double> expected = before, bound(before.size());
        for (size_t i = 0; i < before.size(); ++i) {
          if (used[i]) {
            expected[i] = Rounded({static_cast<double>(static_cast<float>(before[i]) + sum[i])},
                                  accumulator)[0];
          }
          bound[i] = SumError(count + 1, magnitude[i] + std::abs(before[i]));
          bound[i] += RoundingError(accumulator, std::abs(exact[i]) + bound[i]);
        }
        ExpectSame(d_table.Get(), expected, "d_table");
        ExpectWithin(d_table.Get(), exact, bound, "d_table against the exact sum");
      }
    }
  }
}

TEST_P(EmbeddingTest, NothingDependsOnTheNumberOfThreads) {
  const std::vector<double> ids = Tokens(5000, 40);
  const std::vector<double> d = random_.Normals(5000 * 33);
  std::vector<uint8_t> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    const DeviceTensor tokens(rig, DType::kI32, {5000}, ids);
    const DeviceTensor d_out(rig, DType::kBF16, {5000, 33}, d);
    const DeviceTensor d_table(rig, DType::kBF16, {40, 33}, std::vector<double>(40 * 33, 0.0));
    const DeviceTensor workspace(rig, DType::kU8, {EmbeddingBackwardWorkspaceBytes(5000)});
    rig.backend().EmbeddingBackward(
        rig.stream(),
        {.tokens = tokens, .d_out = d_out, .d_table = d_table, .workspace = workspace});
    const std::vector<uint8_t> bytes = d_table.GetBytes();
    if (first.empty()) first = bytes;
    EXPECT_EQ(bytes, first) << threads << " threads";
  }
}

TEST_P(EmbeddingTest, RefusesWrongArguments) {
  const DeviceTensor tokens(rig_, DType::kI32, {8}, std::vector<double>(8, 1.0));
  const DeviceTensor table = NormalTensor(DType::kBF16, {4, 16});
  const DeviceTensor out = NormalTensor(DType::kBF16, {8, 16});
  const DeviceTensor wide = NormalTensor(DType::kF32, {8, 16});
  const DeviceTensor workspace(rig_, DType::kU8, {EmbeddingBackwardWorkspaceBytes(8)});
  const EmbeddingForwardArgs good{.tokens = tokens, .table = table, .out = out};
  EXPECT_NO_THROW(Validate(good));
  const auto refuses = [&](const std::function<void(EmbeddingForwardArgs&)>& change) {
    EmbeddingForwardArgs args = good;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.tokens = {}; });
  refuses([](auto& args) { args.table = {}; });
  refuses([](auto& args) { args.out = {}; });
  refuses([&](auto& args) { args.out = wide; });
  refuses([&](auto& args) { args.tokens = tokens.view().Flat(0, 7); });
  refuses([&](auto& args) { args.tokens = wide.view().Flat(0, 8); });
  refuses([&](auto& args) { args.table = out.view().Rows(0, 4); });
  const EmbeddingBackwardArgs good_back{
      .tokens = tokens, .d_out = out, .d_table = table, .workspace = workspace};
  EXPECT_NO_THROW(Validate(good_back));
  const auto refuses_back = [&](const std::function<void(EmbeddingBackwardArgs&)>& change) {
    EmbeddingBackwardArgs args = good_back;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses_back([](auto& args) { args.tokens = {}; });
  refuses_back([](auto& args) { args.d_out = {}; });
  refuses_back([](auto& args) { args.d_table = {}; });
  refuses_back([](auto& args) { args.workspace = {}; });
  refuses_back([](auto& args) { args.workspace = args.workspace.Flat(0, 32); });
  refuses_back([&](auto& args) { args.d_table = out; });
  refuses_back([&](auto& args) { args.d_out = out.view().Rows(0, 7); });
}

// An id beyond the table is an error of the stream's work, not a stray access.
TEST_P(EmbeddingTest, ReportsIdsBeyondTheTable) {
  if (GetParam() != "cpu") GTEST_SKIP() << "checked on the CPU only";
  const DeviceTensor tokens(rig_, DType::kI32, {2}, {1.0, 4.0});
  const DeviceTensor table = NormalTensor(DType::kF32, {4, 3});
  const DeviceTensor out(rig_, DType::kF32, {2, 3});
  backend().EmbeddingForward(stream(), {.tokens = tokens, .table = table, .out = out});
  EXPECT_THROW(rig_.Finish(), CheckError);
}

INSTANTIATE_TEST_SUITE_P(Backends, EmbeddingTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
