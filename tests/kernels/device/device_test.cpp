// What every backend's device promises: order within and between streams, host signals, capture,
// memory. The work is copies, so one source tests the CPU and the GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr milliseconds kLong{60'000};
// Long enough that work which should not have started would have been seen.
constexpr milliseconds kShort{30};
constexpr int64_t kBytes = int64_t{4} << 20;

class DeviceTest : public testing::TestWithParam<std::string> {
 protected:
  DeviceTest()
      : backend_(MakeBackend(GetParam(), {.threads = 2})),
        source_(Host(kBytes, 7)),
        middle_(device().Allocate(kBytes, MemoryKind::kDevice)),
        result_(Host(kBytes, 0)) {}

  Device& device() { return backend_->device(); }
  Buffer Host(int64_t bytes, int value) {
    Buffer buffer = device().Allocate(bytes, MemoryKind::kPinnedHost);
    std::memset(buffer.data(), value, static_cast<size_t>(bytes));
    return buffer;
  }
  void Copy(Stream& stream, const Buffer& from, const Buffer& to) {
    backend_->Copy(stream, {.source = from.View(0, DType::kU8, {kBytes}),
                            .destination = to.View(0, DType::kU8, {kBytes})});
  }
  // The value that all bytes of the buffer have, -1 when they differ.
  static int ValueOf(const Buffer& buffer) {
    const int first = std::to_integer<int>(buffer.data()[0]);
    for (int64_t i = 1; i < buffer.bytes(); ++i) {
      if (std::to_integer<int>(buffer.data()[i]) != first) return -1;
    }
    return first;
  }

  std::unique_ptr<KernelBackend> backend_;
  Buffer source_;
  Buffer middle_;
  Buffer result_;
};

TEST_P(DeviceTest, WorkOfAStreamIsInOrder) {
  const auto stream = device().CreateStream("a");
  const Buffer other = Host(kBytes, 9);
  for (int round = 0; round < 10; ++round) {
    Copy(*stream, other, middle_);
    Copy(*stream, source_, middle_);
    Copy(*stream, middle_, result_);
  }
  stream->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 7);
  EXPECT_EQ(stream->name(), "a");
}

TEST_P(DeviceTest, EventOrdersTwoStreams) {
  const auto producer = device().CreateStream("producer");
  const auto consumer = device().CreateStream("consumer");
  const auto gate = device().CreateHostSignal();
  const auto event = device().CreateEvent();
  producer->Wait(*gate, 1);
  Copy(*producer, source_, middle_);
  producer->Record(*event);
  consumer->Wait(*event);
  Copy(*consumer, middle_, result_);
  EXPECT_FALSE(event->Done());
  EXPECT_THROW(consumer->Synchronize(kShort), DeviceError);
  EXPECT_EQ(ValueOf(result_), 0);
  gate->Set(1);
  consumer->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 7);
  EXPECT_TRUE(event->Done());
}

TEST_P(DeviceTest, WaitForAnEventNeverRecordedReturnsAtOnce) {
  const auto stream = device().CreateStream("a");
  const auto event = device().CreateEvent();
  EXPECT_TRUE(event->Done());
  stream->Wait(*event);
  stream->Synchronize(kLong);
}

TEST_P(DeviceTest, TimedEventsTellWhenTheyWereReached) {
  const auto stream = device().CreateStream("a");
  const auto gate = device().CreateHostSignal();
  const auto begin = device().CreateTimedEvent();
  const auto end = device().CreateTimedEvent();
  stream->Record(*begin);
  stream->Synchronize(kLong);
  const auto host_begin = std::chrono::steady_clock::now();
  stream->Wait(*gate, 1);
  stream->Record(*end);
  EXPECT_THROW(stream->Synchronize(kShort), DeviceError);
  const std::chrono::duration<double> held = std::chrono::steady_clock::now() - host_begin;
  gate->Set(1);
  stream->Synchronize(kLong);
  // The stream was held up between them for at least as long; clocks may differ by a thousandth.
  EXPECT_FALSE(!(end->SecondsSince(*begin) >= 0.999 * held.count())) << held.count();
  EXPECT_FALSE(!(begin->SecondsSince(*end) <= -0.999 * held.count())) << held.count();
  // Recorded again, it is the later time that counts.
  stream->Record(*begin);
  stream->Synchronize(kLong);
  EXPECT_FALSE(!(begin->SecondsSince(*end) >= 0)) << begin->SecondsSince(*end);
}

TEST_P(DeviceTest, SignalCountsCyclically) {
  const auto stream = device().CreateStream("a");
  const auto signal = device().CreateHostSignal();
  signal->Set(0xfffffff0u);
  EXPECT_TRUE(signal->WaitFor(0xffffff00u, milliseconds(0)));
  EXPECT_FALSE(signal->WaitFor(3, kShort));  // 3 comes after 0xfffffff0
  stream->Wait(*signal, 3);
  Copy(*stream, source_, result_);
  EXPECT_THAT([&] { stream->Synchronize(kShort); }, ThrowsMessage<DeviceError>(HasSubstr("a")));
  EXPECT_EQ(ValueOf(result_), 0);
  signal->Set(4);
  stream->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 7);
}

TEST_P(DeviceTest, StreamSetsASignalAfterItsWork) {
  const auto first = device().CreateStream("first");
  const auto second = device().CreateStream("second");
  const auto signal = device().CreateHostSignal();
  second->Wait(*signal, 9);
  Copy(*second, middle_, result_);
  Copy(*first, source_, middle_);
  first->Signal(*signal, 9);
  ASSERT_TRUE(signal->WaitFor(9, kLong));
  EXPECT_EQ(signal->value(), 9u);
  second->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 7);
}

TEST_P(DeviceTest, FailedSignalEndsEveryWait) {
  const auto stream = device().CreateStream("a");
  const auto signal = device().CreateHostSignal();
  stream->Wait(*signal, 1);
  Copy(*stream, source_, middle_);
  signal->Fail(std::make_exception_ptr(IoError("the disk is gone")));
  EXPECT_THAT([&] { stream->Synchronize(kLong); },
              ThrowsMessage<IoError>(HasSubstr("the disk is gone")));
  EXPECT_THROW(signal->WaitFor(1, kLong), IoError);
  // A wait that comes later ends as well, with the same error.
  stream->Wait(*signal, 5);
  EXPECT_THROW(stream->Synchronize(kLong), IoError);
}

TEST_P(DeviceTest, CapturedWorkRunsAtEachLaunchOnly) {
  const auto stream = device().CreateStream("a");
  const auto graph = device().Capture(*stream, [&] {
    Copy(*stream, source_, middle_);
    Copy(*stream, middle_, result_);
  });
  stream->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 0);
  for (const int value : {7, 8}) {
    std::memset(source_.data(), value, kBytes);
    graph->Launch(*stream);
    stream->Synchronize(kLong);
    EXPECT_EQ(ValueOf(result_), value);
  }
}

TEST_P(DeviceTest, WaitsCannotBeCaptured) {
  const auto stream = device().CreateStream("a");
  const auto signal = device().CreateHostSignal();
  const auto event = device().CreateEvent();
  EXPECT_THROW(device().Capture(*stream, [&] { stream->Wait(*signal, 1); }), CheckError);
  EXPECT_THROW(device().Capture(*stream, [&] { stream->Record(*event); }), CheckError);
  // The capture has ended all the same.
  Copy(*stream, source_, result_);
  stream->Synchronize(kLong);
  EXPECT_EQ(ValueOf(result_), 7);
}

TEST_P(DeviceTest, MemoryIsAlignedCountedAndSealed) {
  const auto backend = MakeBackend(GetParam(), {});
  Device& fresh = backend->device();
  {
    const Buffer first = fresh.Allocate(5000, MemoryKind::kDevice);
    const Buffer second = fresh.Allocate(int64_t{9} << 20, MemoryKind::kPinnedHost);
    const Buffer empty = fresh.Allocate(0, MemoryKind::kDevice);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % 4096, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(second.data()) % 4096, 0u);
    std::memset(second.data(), 1, static_cast<size_t>(second.bytes()));
    EXPECT_EQ(fresh.allocated_bytes(MemoryKind::kDevice), 5000);
    EXPECT_EQ(fresh.allocated_bytes(MemoryKind::kPinnedHost), int64_t{9} << 20);
    fresh.Seal();
    EXPECT_THROW(fresh.Allocate(1, MemoryKind::kDevice), DeviceError);
    EXPECT_THROW(fresh.Allocate(1, MemoryKind::kPinnedHost), DeviceError);
  }
  EXPECT_EQ(fresh.allocated_bytes(MemoryKind::kDevice), 0);
  EXPECT_EQ(fresh.allocated_bytes(MemoryKind::kPinnedHost), 0);
}

// Also where there was something else before.
TEST_P(DeviceTest, PinnedMemoryBeginsAsZeros) {
  for (const int64_t bytes : {int64_t{5000}, int64_t{9} << 20}) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Buffer buffer = device().Allocate(bytes, MemoryKind::kPinnedHost);
      const auto* begin = reinterpret_cast<const char*>(buffer.data());
      EXPECT_EQ(std::count(begin, begin + bytes, 0), bytes);
      std::memset(buffer.data(), 0xff, static_cast<size_t>(bytes));
    }
  }
}

TEST_P(DeviceTest, RefusesMoreMemoryThanThereCanBe) {
  EXPECT_THROW(device().Allocate(int64_t{1} << 60, MemoryKind::kDevice), DeviceError);
  EXPECT_THROW(device().Allocate(-1, MemoryKind::kDevice), CheckError);
  Copy(*device().CreateStream("a"), source_, result_);  // the device still works
}

INSTANTIATE_TEST_SUITE_P(Backends, DeviceTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
