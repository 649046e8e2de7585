#include "runtime/data/batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/core/error.h"
#include "runtime/data/bigram_table.h"
#include "runtime/data/hearth_writer.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::SomeTokens;
using test::TemporaryFolder;

constexpr int64_t kLength = 8;

class Batches : public ::testing::Test {
 protected:
  void SetUp() override {
    // Documents of very different lengths, one of them masked in part.
    Write("a1.hearth", {3, 30, 8, 1, 60}, 1);
    Write("a2.hearth", {100, 100}, 2);
    Write("b.hearth", {257}, 3);
  }
  void Write(const std::string& name, const std::vector<int64_t>& lengths, uint32_t salt) const {
    HearthWriterOptions options;
    options.path = folder_.Path(name);
    options.vocab_size = 256;
    options.has_loss_mask = salt == 2;
    HearthWriter writer(options);
    for (const int64_t length : lengths) {
      std::vector<uint8_t> mask;
      for (int64_t i = 0; options.has_loss_mask && i < length; ++i) mask.push_back(i % 3 != 0);
      writer.Append(SomeTokens(length, 256, salt++), mask);
      writer.EndDocument();
    }
    writer.Finish();
  }
  TokenDataset Open(SampleOrdering ordering = SampleOrdering::kShuffled) const {
    return TokenDataset(
        {{.path_glob = folder_.Path("a*.hearth")}, {.path_glob = folder_.Path("b.hearth")}},
        {.sequence_len = kLength, .ordering = ordering});
  }
  TemporaryFolder folder_;
};

struct Row {
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<int32_t> positions;
  bool operator==(const Row&) const = default;
};

// The real rows of a micro-batch, after checking everything that describes them.
std::vector<Row> CheckedRows(const MicroBatch& batch, int64_t micro_batch_size) {
  const size_t elements = static_cast<size_t>(micro_batch_size * kLength);
  EXPECT_EQ(batch.tokens.size(), elements);
  EXPECT_EQ(batch.targets.size(), elements);
  EXPECT_EQ(batch.positions.size(), elements);
  std::vector<Row> rows;
  int64_t targets = 0;
  std::vector<int32_t> offsets = {0};
  int32_t longest = 0;
  for (int64_t row = 0; row < micro_batch_size; ++row) {
    Row values;
    for (int64_t i = row * kLength; i < (row + 1) * kLength; ++i) {
      const size_t at = static_cast<size_t>(i);
      values.tokens.push_back(batch.tokens[at]);
      values.targets.push_back(batch.targets[at]);
      values.positions.push_back(batch.positions[at]);
      targets += batch.targets[at] >= 0;
      if (row >= batch.rows) {
        EXPECT_EQ(batch.tokens[at], -1);
        EXPECT_EQ(batch.targets[at], -1);
        EXPECT_EQ(batch.positions[at], 0);
        continue;
      }
      EXPECT_GE(batch.tokens[at], 0);
      if (batch.positions[at] == 0 && i > 0) offsets.push_back(static_cast<int32_t>(i));
      longest = std::max(longest, batch.positions[at] + 1);
    }
    if (row < batch.rows) rows.push_back(values);
  }
  if (batch.rows > 0) offsets.push_back(static_cast<int32_t>(batch.rows * kLength));
  EXPECT_EQ(batch.sequence_offsets, offsets);
  EXPECT_EQ(batch.max_sequence, longest);
  EXPECT_EQ(batch.target_count, targets);
  return rows;
}

// All ranks' rows of a step, in rank order.
std::vector<Row> RowsOfStep(const TokenDataset& data, BatchPartition partition, int64_t step) {
  std::vector<Row> rows;
  std::map<size_t, int> micro_batch_counts;
  for (partition.rank = 0; partition.rank < partition.world_size; ++partition.rank) {
    const StepBatch batch = BuildTrainingBatch(data, partition, step);
    EXPECT_EQ(batch.step, step);
    ++micro_batch_counts[batch.micro_batches.size()];
    int64_t targets = 0;
    int64_t own_rows = 0;
    for (size_t i = 0; i < batch.micro_batches.size(); ++i) {
      const MicroBatch& micro_batch = batch.micro_batches[i];
      const auto part = CheckedRows(micro_batch, partition.micro_batch_size);
      rows.insert(rows.end(), part.begin(), part.end());
      targets += micro_batch.target_count;
      own_rows += micro_batch.rows;
      // Only the end of a rank's batch is padded.
      const bool is_padded = i > 0 && micro_batch.rows > 0;
      if (is_padded) {
        EXPECT_EQ(batch.micro_batches[i - 1].rows, partition.micro_batch_size);
      }
    }
    EXPECT_EQ(batch.target_count, targets);
    const int64_t g = partition.global_batch_size;
    const int64_t w = partition.world_size;
    EXPECT_EQ(own_rows, (partition.rank + 1) * g / w - partition.rank * g / w);
  }
  EXPECT_EQ(micro_batch_counts.size(), 1u) << "ranks differ in their number of micro-batches";
  return rows;
}

TEST_F(Batches, DataIsTheSameForEveryNumberOfRanksAndMicroBatchSize) {
  const TokenDataset data = Open();
  for (const int64_t global_batch : {1, 7, 8}) {
    for (const int64_t step : {0, 1, 5, 12, 1000}) {
      std::vector<Row> expected;
      for (int64_t i = step * global_batch; i < (step + 1) * global_batch; ++i) {
        Row row{.tokens = std::vector<int32_t>(kLength),
                .targets = std::vector<int32_t>(kLength),
                .positions = std::vector<int32_t>(kLength)};
        std::vector<int32_t> lengths;
        data.ReadSample(data.Locate(i), {row.tokens, row.targets, row.positions}, &lengths);
        expected.push_back(row);
      }
      for (const int64_t world : {1, 2, 3, 5, 8}) {
        for (const int64_t micro_batch : {1, 2, 3, 8}) {
          const BatchPartition partition{.global_batch_size = global_batch,
                                         .micro_batch_size = micro_batch,
                                         .world_size = world};
          EXPECT_EQ(RowsOfStep(data, partition, step), expected)
              << global_batch << " over " << world << " by " << micro_batch;
        }
      }
    }
  }
}

// Defect 4: resuming among several files or in a later epoch.
TEST_F(Batches, SeekEqualsWalkingAcrossFilesAndEpochs) {
  const TokenDataset walked = Open();
  const BatchPartition partition{.global_batch_size = 5, .micro_batch_size = 2};
  const int64_t steps = 3 * walked.samples_per_epoch() / 5 + 2;
  std::vector<StepBatch> batches;
  for (int64_t step = 0; step < steps; ++step) {
    batches.push_back(BuildTrainingBatch(walked, partition, step));
  }
  for (int64_t step = steps - 1; step >= 0; step -= 3) {
    const TokenDataset resumed = Open();  // nothing is carried over
    EXPECT_EQ(BuildTrainingBatch(resumed, partition, step), batches[static_cast<size_t>(step)]);
  }
}

// The same defect against an oracle: every epoch holds each sample's tokens exactly once.
TEST_F(Batches, EveryEpochReadsEachSampleOnce) {
  const TokenDataset shuffled = Open();
  const TokenDataset in_order = Open(SampleOrdering::kSequential);
  const int64_t samples = shuffled.samples_per_epoch();
  const BatchPartition one{.global_batch_size = samples, .micro_batch_size = samples};
  const auto counted = [&](const std::vector<Row>& rows) {
    std::map<std::vector<int32_t>, int> counts;
    for (const Row& row : rows) ++counts[row.tokens];
    return counts;
  };
  const auto expected =
      counted(CheckedRows(BuildEvaluationBatch(in_order, one, 0).micro_batches[0], samples));
  EXPECT_EQ(expected.size(), static_cast<size_t>(samples));
  std::vector<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<Row> rows = RowsOfStep(shuffled, one, epoch);
    EXPECT_EQ(counted(rows), expected);
    orders.push_back(rows[0].tokens);
  }
}

TEST_F(Batches, EvaluationGoesThroughTheSamplesOnceInOrder) {
  const TokenDataset data = Open(SampleOrdering::kSequential);
  const int64_t samples = data.samples_per_epoch();
  ASSERT_EQ(samples, 12 + 24 + 32);
  BatchPartition partition{.global_batch_size = 7, .micro_batch_size = 2, .world_size = 3};
  EXPECT_EQ(EvaluationBatchCount(data, partition, 40), 10);
  EXPECT_EQ(EvaluationBatchCount(data, partition, 4), 4);
  int64_t index = 0;
  for (int64_t batch = 0; batch < 10; ++batch) {
    for (partition.rank = 0; partition.rank < 3; ++partition.rank) {
      const StepBatch part = BuildEvaluationBatch(data, partition, batch);
      EXPECT_EQ(part.micro_batches.size(), batch < 9 ? 2u : 1u);  // the last has 5 samples
      for (const MicroBatch& micro_batch : part.micro_batches) {
        for (const Row& row : CheckedRows(micro_batch, 2)) {
          std::vector<int32_t> tokens(kLength);
          const SampleLocation place = data.Locate(index++);
          const int64_t file = place.dataset == 0 ? place.file : 2;
          data.Files()[static_cast<size_t>(file)]->ReadTokens(place.offset, tokens);
          EXPECT_EQ(row.tokens, tokens);
        }
      }
    }
  }
  EXPECT_EQ(index, samples);
}

TEST(BatchPartition, RefusesWhatCannotBe) {
  const auto refuse = [](const BatchPartition& partition) {
    EXPECT_THROW(partition.Validate(1024), ConfigError);
  };
  EXPECT_NO_THROW(BatchPartition{}.Validate(1024));
  refuse({.global_batch_size = 0});
  refuse({.global_batch_size = int64_t{1} << 40});
  refuse({.micro_batch_size = 0});
  refuse({.micro_batch_size = int64_t{1} << 21});
  refuse({.rank = 1});
  refuse({.rank = -1});
  refuse({.world_size = 0});
}

TEST_F(Batches, BigramTableAgainstACountByHand) {
  const TokenDataset training = Open();
  const TokenDataset held_out({{.path_glob = folder_.Path("a2.hearth")}},
                              {.sequence_len = kLength, .ordering = SampleOrdering::kSequential});
  std::map<std::pair<int32_t, int32_t>, double> pairs;
  std::map<int32_t, double> totals;
  const auto count = [&](const std::vector<int64_t>& lengths, uint32_t salt) {
    for (const int64_t length : lengths) {
      const std::vector<int32_t> tokens = SomeTokens(length, 256, salt++);
      for (size_t i = 1; i < tokens.size(); ++i) {
        ++pairs[{tokens[i - 1], tokens[i]}];
        ++totals[tokens[i - 1]];
      }
    }
  };
  count({3, 30, 8, 1, 60}, 1);
  count({100, 100}, 2);
  count({257}, 3);
  double nats = 0;
  int64_t targets = 0;
  std::vector<int32_t> tokens = SomeTokens(100, 256, 2);
  const std::vector<int32_t> second = SomeTokens(100, 256, 3);
  tokens.insert(tokens.end(), second.begin(), second.end());
  for (size_t i = 1; i <= 24 * kLength; ++i) {
    const bool masked = (i % 100) % 3 == 0;  // the first of a document is
    if (masked) continue;
    const double pair = pairs[{tokens[i - 1], tokens[i]}] + 1;
    nats -= std::log(pair / (totals[tokens[i - 1]] + 256));
    ++targets;
  }
  const double expected = nats / static_cast<double>(targets);
  const double actual = BigramNatsPerTarget(training, held_out, 5, 1000);
  EXPECT_LE(std::abs(actual - expected), 1e-12 * expected) << actual << " " << expected;
}

TEST(BigramTable, UnseenPairsAreUniformAndLimitsHold) {
  const BigramTable table(256);
  EXPECT_LE(std::abs(table.Nats(3, 4) - std::log(256.0)), 1e-14);
  EXPECT_THROW(BigramTable(0), ConfigError);
  EXPECT_THROW(BigramTable(BigramTable::kMaxVocab + 1), ConfigError);
}

}  // namespace
}  // namespace hearth
