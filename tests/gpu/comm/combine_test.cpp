#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/cuda/cuda_native.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/communicator_rig.h"

namespace hearth::test {
namespace {

constexpr int64_t kElements = 1000;  // several blocks and a part of one
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs Combine over `count` terms whose first is also the output; the host gets the result.
template <typename T, typename Value>
std::vector<T> RunCombine(int count, CombineOp op, const Value& value) {
  const auto backend = MakeBackendUnderTest();
  const auto stream = backend->device().CreateStream("combine");
  std::vector<TestMemory> terms;
  CombineArgs args{.op = op};
  for (int term = 0; term < count; ++term) {
    terms.emplace_back(*backend, kElements * int64_t{sizeof(T)});
    T* host = reinterpret_cast<T*>(terms.back().host());
    for (int64_t i = 0; i < kElements; ++i) host[i] = value(term, i);
    terms.back().Upload(*stream);
    args.inputs.emplace_back(terms.back().device(), DTypeOf<T>::kValue, Shape{kElements});
  }
  args.out = args.inputs.front();
  Combine(*stream, args);
  terms.front().Download(*stream);
  stream->Synchronize(kRigTimeout);
  const T* host = reinterpret_cast<const T*>(terms.front().host());
  return {host, host + kElements};
}

TEST(Combine, AddsFloatsInTheOrderGiven) {
  for (int count : {1, 2, 5}) {
    const auto sums = RunCombine<float>(count, CombineOp::kSum, &TestValue);
    for (int64_t i = 0; i < kElements; ++i) {
      float expected = TestValue(0, i);
      for (int term = 1; term < count; ++term) expected = expected + TestValue(term, i);
      ASSERT_EQ(std::bit_cast<uint32_t>(sums[static_cast<size_t>(i)]),
                std::bit_cast<uint32_t>(expected))
          << "element " << i << " of " << count << " terms";
    }
  }
}

TEST(Combine, TakesTheLargestFloatAndNanBeforeAll) {
  const auto value = [](int term, int64_t i) { return i % 7 == term ? kNan : TestValue(term, i); };
  const auto largest = RunCombine<float>(4, CombineOp::kMax, value);
  for (int64_t i = 0; i < kElements; ++i) {
    const float got = largest[static_cast<size_t>(i)];
    if (i % 7 < 4) {
      ASSERT_TRUE(std::isnan(got)) << "element " << i << " is " << got;
      continue;
    }
    float expected = TestValue(0, i);
    for (int term = 1; term < 4; ++term) expected = std::fmax(expected, TestValue(term, i));
    ASSERT_EQ(got, expected) << i;
  }
}

TEST(Combine, AddsIntegersModuloTwoTo64) {
  const auto sums = RunCombine<int64_t>(3, CombineOp::kSum, &TestInteger);
  const auto largest = RunCombine<int64_t>(3, CombineOp::kMax, &TestInteger);
  for (int64_t i = 0; i < kElements; ++i) {
    uint64_t sum = 0;
    int64_t most = TestInteger(0, i);
    for (int term = 0; term < 3; ++term) {
      sum += static_cast<uint64_t>(TestInteger(term, i));
      most = std::max(most, TestInteger(term, i));
    }
    ASSERT_EQ(sums[static_cast<size_t>(i)], static_cast<int64_t>(sum)) << i;
    ASSERT_EQ(largest[static_cast<size_t>(i)], most) << i;
  }
}

TEST(Combine, RefusesTermsThatDoNotFit) {
  const auto backend = MakeBackendUnderTest();
  const auto stream = backend->device().CreateStream("combine");
  const TestMemory memory(*backend, 64);
  const TensorView four(memory.device(), DType::kF32, {4});
  const TensorView five(memory.device(), DType::kF32, {5});
  const TensorView bf16(memory.device(), DType::kBF16, {4});
  EXPECT_THROW(Combine(*stream, {.inputs = {}, .out = four}), CheckError);
  EXPECT_THROW(Combine(*stream, {.inputs = {four, five}, .out = four}), CheckError);
  EXPECT_THROW(Combine(*stream, {.inputs = {bf16}, .out = bf16}), CheckError);
}

}  // namespace
}  // namespace hearth::test
