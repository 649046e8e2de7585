#include <gtest/gtest.h>

#include <chrono>
#include <exception>
#include <thread>

#include "kernels/backend.h"

namespace hearth::test {
namespace {

constexpr std::chrono::seconds kTimeout{60};

std::exception_ptr LinkDown() { return std::make_exception_ptr(CommError("link down")); }

TEST(HostSignal, FailingItEndsTheStreamThatWaits) {
  const auto backend = MakeBackend("cpu", {});
  const auto stream = backend->device().CreateStream("waits");
  const auto signal = backend->device().CreateHostSignal();
  const auto after = backend->device().CreateHostSignal();
  Buffer memory = backend->device().Allocate(1, MemoryKind::kDevice);
  *memory.data() = std::byte{7};
  stream->Wait(*signal, 5);
  backend->Zero(*stream, {.destination = memory.View(0, DType::kU8, {1})});
  stream->Signal(*after, 1);
  std::thread failing([&] { signal->Fail(LinkDown()); });
  EXPECT_TRUE(after->WaitFor(1, kTimeout)) << "others that wait for the stream must not hang";
  EXPECT_THROW(stream->Synchronize(kTimeout), CommError);
  failing.join();
  EXPECT_EQ(*memory.data(), std::byte{7}) << "work after the failed wait was done";

  // Later waits fail at once, also for a value that was reached, and on the host.
  signal->Set(5);
  stream->Wait(*signal, 5);
  EXPECT_THROW(stream->Synchronize(kTimeout), CommError);
  EXPECT_THROW(signal->WaitFor(5, kTimeout), CommError);
}

TEST(HostSignal, KeepsTheFirstError) {
  const auto backend = MakeBackend("cpu", {});
  const auto signal = backend->device().CreateHostSignal();
  signal->Fail(LinkDown());
  signal->Fail(std::make_exception_ptr(CommError("another one")));
  try {
    signal->WaitFor(1, kTimeout);
    ADD_FAILURE() << "no exception";
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(), "link down");
  }
}

}  // namespace
}  // namespace hearth::test
