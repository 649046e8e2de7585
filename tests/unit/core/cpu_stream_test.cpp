// The CPU device: order within a stream, events, host signals, errors, capture, memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_device.h"

namespace hearth::test {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr milliseconds kLong{60'000};
// Long enough that work which should not have started would have been seen.
constexpr milliseconds kShort{30};

class CpuStreamTest : public testing::Test {
 protected:
  CpuStream& Create(const char* name) {
    streams_.push_back(device_.CreateStream(name));
    return dynamic_cast<CpuStream&>(*streams_.back());
  }

  CpuDevice device_{2};
  std::vector<std::unique_ptr<Stream>> streams_;
};

TEST_F(CpuStreamTest, RunsInOrderOnItsOwnThread) {
  CpuStream& stream = Create("a");
  std::vector<int> order;
  std::thread::id thread;
  for (int i = 0; i < 100; ++i) {
    stream.Enqueue([&order, &thread, i] {
      order.push_back(i);
      thread = std::this_thread::get_id();
    });
  }
  stream.Synchronize(kLong);
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_NE(thread, std::this_thread::get_id());
  EXPECT_EQ(stream.name(), "a");
}

TEST_F(CpuStreamTest, EventOrdersTwoStreams) {
  CpuStream& producer = Create("producer");
  CpuStream& consumer = Create("consumer");
  auto gate = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  int value = 0;  // unsynchronised but for the event: a sanitizer sees a missing wait
  int seen = 0;
  producer.Wait(*gate, 1);
  producer.Enqueue([&] { value = 7; });
  producer.Record(*event);
  consumer.Wait(*event);
  consumer.Enqueue([&] { seen = value; });
  EXPECT_FALSE(event->Done());
  EXPECT_THROW(consumer.Synchronize(kShort), DeviceError);
  gate->Set(1);
  consumer.Synchronize(kLong);
  EXPECT_EQ(seen, 7);
  EXPECT_TRUE(event->Done());
}

TEST_F(CpuStreamTest, WaitForAnEventNeverRecordedReturnsAtOnce) {
  CpuStream& stream = Create("a");
  auto event = device_.CreateEvent();
  EXPECT_TRUE(event->Done());
  stream.Wait(*event);
  stream.Synchronize(kLong);
}

TEST_F(CpuStreamTest, WaitTakesTheLastRecordBeforeIt) {
  CpuStream& producer = Create("producer");
  CpuStream& consumer = Create("consumer");
  auto gate = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  producer.Record(*event);
  consumer.Wait(*event);
  producer.Wait(*gate, 1);
  producer.Record(*event);
  // The second record is pending, the wait is for the first.
  consumer.Synchronize(kLong);
  EXPECT_FALSE(event->Done());
  gate->Set(1);
  producer.Synchronize(kLong);
  EXPECT_TRUE(event->Done());
}

// Of another stream, which reaches the later record first.
TEST_F(CpuStreamTest, ALaterRecordEndsNoWaitForAnEarlierOne) {
  CpuStream& slow = Create("slow");
  CpuStream& fast = Create("fast");
  CpuStream& consumer = Create("consumer");
  auto gate = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  slow.Wait(*gate, 1);
  slow.Record(*event);
  consumer.Wait(*event);
  fast.Record(*event);
  fast.Synchronize(kLong);
  EXPECT_THROW(consumer.Synchronize(kShort), DeviceError);
  gate->Set(1);
  consumer.Synchronize(kLong);
}

TEST_F(CpuStreamTest, HostSignalCountsCyclically) {
  CpuStream& stream = Create("a");
  auto signal = device_.CreateHostSignal();
  signal->Set(0xfffffff0u);
  EXPECT_TRUE(signal->WaitFor(0xffffff00u, milliseconds(0)));
  EXPECT_FALSE(signal->WaitFor(3, kShort));  // 3 comes after 0xfffffff0
  std::atomic<bool> passed = false;
  stream.Wait(*signal, 3);
  stream.Enqueue([&] { passed = true; });
  EXPECT_THROW(stream.Synchronize(kShort), DeviceError);
  EXPECT_FALSE(passed);
  signal->Set(4);
  stream.Synchronize(kLong);
  EXPECT_TRUE(passed);
}

TEST_F(CpuStreamTest, StreamSetsASignalAfterItsWork) {
  CpuStream& stream = Create("a");
  auto signal = device_.CreateHostSignal();
  int value = 0;
  stream.Enqueue([&] { value = 5; });
  stream.Signal(*signal, 9);
  ASSERT_TRUE(signal->WaitFor(9, kLong));
  EXPECT_EQ(value, 5);
  EXPECT_EQ(signal->value(), 9u);
}

TEST_F(CpuStreamTest, SignalFromOneStreamReleasesAnother) {
  CpuStream& first = Create("first");
  CpuStream& second = Create("second");
  auto signal = device_.CreateHostSignal();
  std::vector<int> order;
  second.Wait(*signal, 1);
  second.Enqueue([&] { order.push_back(2); });
  first.Enqueue([&] { order.push_back(1); });
  first.Signal(*signal, 1);
  second.Synchronize(kLong);
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST_F(CpuStreamTest, FailedSignalEndsEveryWait) {
  CpuStream& stream = Create("a");
  auto signal = device_.CreateHostSignal();
  bool ran = false;
  stream.Wait(*signal, 1);
  stream.Enqueue([&] { ran = true; });
  signal->Fail(std::make_exception_ptr(IoError("the disk is gone")));
  EXPECT_THAT([&] { stream.Synchronize(kLong); },
              ThrowsMessage<IoError>(HasSubstr("the disk is gone")));
  EXPECT_FALSE(ran);
  EXPECT_THROW(signal->WaitFor(1, kLong), IoError);
}

TEST_F(CpuStreamTest, ErrorDropsLaterWorkButNotSignals) {
  CpuStream& stream = Create("a");
  auto signal = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  bool ran = false;
  stream.Enqueue([] { throw DeviceError("broken work"); });
  stream.Enqueue([&] { ran = true; });
  stream.Signal(*signal, 1);
  stream.Record(*event);
  EXPECT_TRUE(signal->WaitFor(1, kLong));
  EXPECT_THAT([&] { stream.Synchronize(kLong); },
              ThrowsMessage<DeviceError>(HasSubstr("broken work")));
  EXPECT_FALSE(ran);
  EXPECT_TRUE(event->Done());
  // Reported once; the stream works again.
  stream.Enqueue([&] { ran = true; });
  stream.Synchronize(kLong);
  EXPECT_TRUE(ran);
}

TEST_F(CpuStreamTest, TimeoutNamesTheStream) {
  CpuStream& stream = Create("the slow one");
  auto gate = device_.CreateHostSignal();
  stream.Wait(*gate, 1);
  EXPECT_THAT([&] { stream.Synchronize(kShort); },
              ThrowsMessage<DeviceError>(HasSubstr("the slow one")));
  gate->Set(1);
  stream.Synchronize(kLong);
}

TEST_F(CpuStreamTest, CapturedWorkRunsAtEachLaunchOnly) {
  CpuStream& stream = Create("a");
  int count = 0;
  auto graph = device_.Capture(stream, [&] {
    stream.Enqueue([&] { ++count; });
    stream.Enqueue([&] { count *= 10; });
  });
  stream.Synchronize(kLong);
  EXPECT_EQ(count, 0);
  graph->Launch(stream);
  graph->Launch(stream);
  stream.Synchronize(kLong);
  EXPECT_EQ(count, 110);
}

TEST_F(CpuStreamTest, WaitsCannotBeCaptured) {
  CpuStream& stream = Create("a");
  auto signal = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  EXPECT_THROW(device_.Capture(stream, [&] { stream.Wait(*signal, 1); }), CheckError);
  EXPECT_THROW(device_.Capture(stream, [&] { stream.Record(*event); }), CheckError);
  // The capture has ended all the same.
  bool ran = false;
  stream.Enqueue([&] { ran = true; });
  stream.Synchronize(kLong);
  EXPECT_TRUE(ran);
}

TEST_F(CpuStreamTest, DestructionFinishesQueuedWork) {
  std::atomic<int> count = 0;
  {
    CpuStream stream("short-lived");
    for (int i = 0; i < 50; ++i) stream.Enqueue([&] { ++count; });
  }
  EXPECT_EQ(count, 50);
}

// The later record is reached first.
TEST_F(CpuStreamTest, AnEventStandsForItsLastRecord) {
  CpuStream& slow = Create("slow");
  CpuStream& fast = Create("fast");
  auto gate = device_.CreateHostSignal();
  auto event = device_.CreateEvent();
  slow.Wait(*gate, 1);
  slow.Record(*event);
  fast.Record(*event);
  fast.Synchronize(kLong);
  EXPECT_TRUE(event->Done());
  gate->Set(1);
  slow.Synchronize(kLong);
  EXPECT_TRUE(event->Done());
}

TEST(CpuDevice, MemoryIsAlignedCountedAndSealed) {
  CpuDevice device(1);
  {
    Buffer first = device.Allocate(5000, MemoryKind::kDevice);
    Buffer second = device.Allocate(int64_t{9} << 20, MemoryKind::kPinnedHost);
    Buffer empty = device.Allocate(0, MemoryKind::kDevice);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % 4096, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(second.data()) % 4096, 0u);
    std::memset(first.data(), 1, 5000);
    std::memset(second.data(), 1, static_cast<size_t>(second.bytes()));
    EXPECT_EQ(device.allocated_bytes(MemoryKind::kDevice), 5000);
    EXPECT_EQ(device.allocated_bytes(MemoryKind::kPinnedHost), int64_t{9} << 20);
    device.Seal();
    EXPECT_THROW(device.Allocate(1, MemoryKind::kDevice), DeviceError);
  }
  EXPECT_EQ(device.allocated_bytes(MemoryKind::kDevice), 0);
  EXPECT_EQ(device.allocated_bytes(MemoryKind::kPinnedHost), 0);
}

TEST(CpuDevice, RefusesMoreMemoryThanThereCanBe) {
  CpuDevice device(1);
  EXPECT_THROW(device.Allocate(int64_t{1} << 60, MemoryKind::kDevice), DeviceError);
  EXPECT_THROW(device.Allocate(-1, MemoryKind::kDevice), CheckError);
}

}  // namespace
}  // namespace hearth::test
