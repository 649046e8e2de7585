#include "runtime/data/data_loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/hearth_writer.h"
#include "tests/unit/data/data_test_support.h"

namespace hearth {
namespace {

using test::MessageOf;
using test::TemporaryFolder;

std::shared_ptr<const TokenDataset> SomeData(const TemporaryFolder& folder) {
  for (const char* name : {"a.hearth", "b.hearth"}) {
    HearthWriterOptions options;
    options.path = folder.Path(name);
    options.vocab_size = 256;
    HearthWriter writer(options);
    for (uint32_t document = 0; document < 5; ++document) {
      writer.Append(test::SomeTokens(20 + 7 * document, 256, document));
      writer.EndDocument();
    }
    writer.Finish();
  }
  return std::make_shared<const TokenDataset>(
      std::vector<DatasetSpec>{{.path_glob = folder.Path("*.hearth")}},
      TokenDatasetOptions{.sequence_len = 8});
}

StepBatch Labelled(int64_t step) {
  StepBatch batch;
  batch.step = step;
  batch.target_count = 100 + step;
  return batch;
}

TEST(DataLoader, PrefetchedBatchesEqualDirectOnes) {
  const TemporaryFolder folder;
  const auto data = SomeData(folder);
  const BatchPartition partition{
      .global_batch_size = 5, .micro_batch_size = 2, .rank = 1, .world_size = 2};
  DataLoader loader(data, {.partition = partition});
  for (int64_t step = 0; step < 40; ++step) {
    const StepBatch expected = BuildTrainingBatch(*data, partition, step);
    if (step % 3 == 0) {
      EXPECT_EQ(loader.WaitNextTargetCount(), expected.target_count);
    }
    EXPECT_EQ(loader.next_step(), step);
    EXPECT_EQ(loader.Next(), expected);
  }
}

TEST(DataLoader, SeekAndFirstStepContinueExactly) {
  const TemporaryFolder folder;
  const auto data = SomeData(folder);
  const BatchPartition partition{.global_batch_size = 3};
  DataLoader loader(data, {.partition = partition, .first_step = 17});
  EXPECT_EQ(loader.Next(), BuildTrainingBatch(*data, partition, 17));
  for (const int64_t step : std::vector<int64_t>{100, 3, 4, 4, 0, 1'000'000'000'000}) {
    loader.Seek(step);
    EXPECT_EQ(loader.Next(), BuildTrainingBatch(*data, partition, step));
    EXPECT_EQ(loader.Next(), BuildTrainingBatch(*data, partition, step + 1));
  }
}

TEST(DataLoader, PreparesTheNextStepWhileThisOneIsUsed) {
  std::promise<void> second_began;
  DataLoader loader(
      [&](int64_t step) {
        if (step == 1) second_began.set_value();
        return Labelled(step);
      },
      {.partition = {}, .last_step = 1});
  EXPECT_EQ(loader.Next().step, 0);
  const auto status = second_began.get_future().wait_for(std::chrono::seconds(60));
  EXPECT_EQ(status, std::future_status::ready);
  EXPECT_EQ(loader.Next().step, 1);
  EXPECT_THROW(loader.Next(), CheckError);
}

TEST(DataLoader, NeverGoesPastTheLastStepNorMoreThanOneAhead) {
  std::atomic<int64_t> largest = -1;
  {
    DataLoader loader(
        [&](int64_t step) {
          largest = std::max(largest.load(), step);
          return Labelled(step);
        },
        {.partition = {}, .last_step = 3});
    for (int64_t step = 0; step < 3; ++step) {
      EXPECT_EQ(loader.WaitNextTargetCount(), 100 + step);
      EXPECT_LE(largest.load(), step);
      EXPECT_EQ(loader.Next().step, step);
    }
    EXPECT_EQ(loader.Next().step, 3);
  }
  EXPECT_EQ(largest.load(), 3);
}

TEST(DataLoader, AnErrorArrivesWithItsStepAndSeekRecovers) {
  DataLoader loader(
      [](int64_t step) {
        if (step == 2) throw IoError("step two is damaged");
        return Labelled(step);
      },
      {.partition = {}});
  EXPECT_EQ(loader.Next().step, 0);
  EXPECT_EQ(loader.Next().step, 1);
  EXPECT_EQ(MessageOf<IoError>([&] { loader.WaitNextTargetCount(); }), "step two is damaged");
  EXPECT_EQ(MessageOf<IoError>([&] { loader.Next(); }), "step two is damaged");
  EXPECT_EQ(MessageOf<IoError>([&] { loader.Next(); }), "step two is damaged");
  EXPECT_EQ(loader.next_step(), 2);
  loader.Seek(3);
  EXPECT_EQ(loader.Next().step, 3);
}

TEST(DataLoader, DamagedDataIsReportedByTheCallThatNeedsIt) {
  const TemporaryFolder folder;
  HearthWriterOptions options;
  options.path = folder.Path("a.hearth");
  options.vocab_size = 256;
  {
    HearthWriter writer(options);
    writer.Append(test::SomeTokens(1000, 256));
    writer.Finish();
  }
  std::string bytes = test::ReadFile(options.path);
  bytes[700] = static_cast<char>(bytes[700] ^ 1);
  folder.Write("a.hearth", bytes);
  const auto data =
      std::make_shared<const TokenDataset>(std::vector<DatasetSpec>{{.path_glob = options.path}},
                                           TokenDatasetOptions{.sequence_len = 8});
  DataLoader loader(data, {.partition = {.global_batch_size = 4}});
  EXPECT_THROW(loader.Next(), IoError);
}

TEST(DataLoader, AWaitEndsAndSaysWhatItWaitedFor) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  DataLoader loader(
      [released](int64_t step) {
        if (step == 1) released.wait_for(std::chrono::seconds(60));
        return Labelled(step);
      },
      {.partition = {}, .timeout_s = 0.05});
  while (true) {  // the first batch may take longer than the time-out on a busy machine
    try {
      EXPECT_EQ(loader.Next().step, 0);
      break;
    } catch (const IoError&) {
    }
  }
  const std::string message = MessageOf<IoError>([&] { loader.Next(); });
  EXPECT_NE(message.find("the training data of step 1"), std::string::npos) << message;
  release.set_value();
  while (true) {
    try {
      EXPECT_EQ(loader.Next().step, 1);
      break;
    } catch (const IoError&) {
    }
  }
}

TEST(DataLoader, ABatchBuiltForAnAbandonedStepIsDropped) {
  std::promise<void> began;
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<bool> first = true;
  DataLoader loader(
      [&, released](int64_t step) {
        if (first.exchange(false)) {
          began.set_value();
          released.wait_for(std::chrono::seconds(60));
        }
        return Labelled(step);
      },
      {.partition = {}});
  began.get_future().wait();
  loader.Seek(50);
  release.set_value();
  EXPECT_EQ(loader.Next().step, 50);
  EXPECT_EQ(loader.Next().step, 51);
}

}  // namespace
}  // namespace hearth
