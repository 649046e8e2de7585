#include "runtime/optimizer/host_worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_device.h"

namespace hearth {
namespace {

constexpr std::chrono::seconds kLong{60};

class HostWorkerTest : public testing::Test {
 protected:
  std::unique_ptr<HostSignal> NewSignal() { return device_.CreateHostSignal(); }

  CpuDevice device_{1};
};

TEST_F(HostWorkerTest, RunsItemsInTheirOrderAndSetsTheirSignals) {
  const auto done = NewSignal();
  std::vector<uint32_t> order, signal_before;
  HostWorker worker(kLong);
  for (uint32_t i = 1; i <= 100; ++i) {
    worker.Enqueue(
        {},
        [&, i] {
          order.push_back(i);
          signal_before.push_back(done->value());
        },
        *done, i);
  }
  ASSERT_TRUE(done->WaitFor(100, kLong));
  ASSERT_EQ(order.size(), 100u);
  for (uint32_t i = 1; i <= 100; ++i) {
    EXPECT_EQ(order[i - 1], i);
    EXPECT_EQ(signal_before[i - 1], i - 1) << "the signal is set before the work is done";
  }
}

TEST_F(HostWorkerTest, WaitsForEverySignal) {
  const auto first = NewSignal(), second = NewSignal(), done = NewSignal();
  std::atomic<bool> second_set{false};
  bool second_was_set = false;
  HostWorker worker(kLong);
  worker.Enqueue(
      {{first.get(), 3}, {second.get(), 7}}, [&] { second_was_set = second_set.load(); }, *done, 1);
  first->Set(3);
  second->Set(6);
  EXPECT_EQ(done->value(), 0u);
  second_set = true;
  second->Set(7);
  ASSERT_TRUE(done->WaitFor(1, kLong));
  EXPECT_TRUE(second_was_set);
}

TEST_F(HostWorkerTest, AStreamWaitsForTheHostAndTheHostForAStream) {
  const auto to_host = NewSignal(), to_stream = NewSignal(), end = NewSignal();
  const auto stream = device_.CreateStream("test");
  HostWorker worker(kLong);
  uint32_t seen = 0;
  worker.Enqueue(
      {{to_host.get(), 1}}, [&] { seen = end->value(); }, *to_stream, 5);
  stream->Signal(*to_host, 1);
  stream->Wait(*to_stream, 5);
  stream->Signal(*end, 9);
  stream->Synchronize(kLong);
  EXPECT_EQ(end->value(), 9u);
  EXPECT_EQ(seen, 0u) << "the stream went on before the host was done";
}

TEST_F(HostWorkerTest, AnErrorFailsItsSignalAndThoseOfLaterItemsWhichAreDropped) {
  const auto before = NewSignal(), failed = NewSignal(), later = NewSignal();
  const auto stream = device_.CreateStream("test");
  bool ran_later = false;
  {
    HostWorker worker(kLong);
    worker.Enqueue(
        {}, [] {}, *before, 1);
    worker.Enqueue(
        {}, [] { throw IoError("the disk is gone"); }, *failed, 1);
    worker.Enqueue(
        {}, [&] { ran_later = true; }, *later, 1);
    stream->Wait(*later, 1);
    EXPECT_TRUE(before->WaitFor(1, kLong));
    EXPECT_THROW(failed->WaitFor(1, kLong), IoError);
    EXPECT_THROW(later->WaitFor(1, kLong), IoError);
    EXPECT_THROW(stream->Synchronize(kLong), IoError);
  }
  EXPECT_FALSE(ran_later);
}

TEST_F(HostWorkerTest, AWaitThatTakesTooLongIsAnErrorAndDropsTheWork) {
  const auto never = NewSignal(), done = NewSignal();
  bool ran = false;
  HostWorker worker(std::chrono::milliseconds(1));
  worker.Enqueue(
      {{never.get(), 1}}, [&] { ran = true; }, *done, 1);
  EXPECT_THROW(done->WaitFor(1, kLong), DeviceError);
  EXPECT_FALSE(ran);
}

TEST_F(HostWorkerTest, AFailedSignalThatAnItemWaitsForIsPassedOn) {
  const auto broken = NewSignal(), done = NewSignal();
  broken->Fail(std::make_exception_ptr(CommError("a rank died")));
  bool ran = false;
  HostWorker worker(kLong);
  worker.Enqueue(
      {{broken.get(), 1}}, [&] { ran = true; }, *done, 1);
  EXPECT_THROW(done->WaitFor(1, kLong), CommError);
  EXPECT_FALSE(ran);
}

TEST_F(HostWorkerTest, DestructionFinishesWhatIsQueued) {
  const auto gate = NewSignal(), done = NewSignal();
  int runs = 0;
  std::thread opener;
  {
    HostWorker worker(kLong);
    worker.Enqueue(
        {{gate.get(), 1}}, [&] { ++runs; }, *done, 1);
    for (uint32_t i = 2; i <= 20; ++i)
      worker.Enqueue(
          {}, [&] { ++runs; }, *done, i);
    opener = std::thread([&] { gate->Set(1); });
  }
  opener.join();
  EXPECT_EQ(runs, 20);
  EXPECT_EQ(done->value(), 20u);
}

}  // namespace
}  // namespace hearth
