// Moving, filling and converting memory.
#include "kernels/api/copy.h"

#include <cmath>
#include <cstring>

#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

class CopyTest : public KernelTest {};

TEST_P(CopyTest, CopiesAndZeroesEverySize) {
  for (const int64_t bytes : {int64_t{1}, int64_t{3}, int64_t{4096}, int64_t{(1 << 18) - 1},
                              int64_t{(1 << 18) + 1}, int64_t{1'000'003}}) {
    SCOPED_TRACE(bytes);
    std::vector<uint8_t> content(static_cast<size_t>(bytes));
    for (uint8_t& byte : content) byte = static_cast<uint8_t>(random_.Integer(0, 255));
    DeviceTensor source(rig_, DType::kU8, {bytes});
    source.SetBytes(content);
    const DeviceTensor destination(rig_, DType::kU8, {bytes});
    backend().Copy(stream(), {.source = source, .destination = destination});
    EXPECT_EQ(destination.GetBytes(), content);
    backend().Zero(stream(), {.destination = destination});
    EXPECT_EQ(destination.GetBytes(), std::vector<uint8_t>(content.size(), 0));
    EXPECT_EQ(source.GetBytes(), content);
  }
}

TEST_P(CopyTest, NothingToCopy) {
  const DeviceTensor source(rig_, DType::kF32, {0});
  const DeviceTensor destination(rig_, DType::kF32, {0, 5});
  backend().Copy(stream(), {.source = source, .destination = destination});
  backend().Zero(stream(), {.destination = destination});
  rig_.Finish();
}

TEST_P(CopyTest, CopiesBetweenTiers) {
  const DeviceTensor device = NormalTensor(DType::kF32, {777});
  Buffer host = backend().device().Allocate(777 * 4, MemoryKind::kPinnedHost);
  backend().Copy(stream(), {.source = device, .destination = host.View(0, DType::kF32, {777})});
  const DeviceTensor back(rig_, DType::kF32, {777});
  backend().Copy(stream(), {.source = host.View(0, DType::kF32, {777}), .destination = back});
  EXPECT_EQ(back.GetBytes(), device.GetBytes());
}

// Every bf16 number survives the way up and down; NaN stays NaN.
TEST_P(CopyTest, CastsEveryBFloat16) {
  std::vector<uint8_t> bytes(2 << 16);
  for (uint32_t i = 0; i < 1u << 16; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    std::memcpy(bytes.data() + 2 * i, &bits, 2);
  }
  DeviceTensor narrow(rig_, DType::kBF16, {1 << 16});
  narrow.SetBytes(bytes);
  const DeviceTensor wide(rig_, DType::kF32, {1 << 16});
  const DeviceTensor again(rig_, DType::kBF16, {1 << 16});
  backend().Cast(stream(), {.source = narrow, .destination = wide});
  backend().Cast(stream(), {.source = wide, .destination = again});
  ExpectSame(wide.Get(), narrow.Get(), "f32");
  ExpectSame(again.Get(), narrow.Get(), "bf16");
}

TEST_P(CopyTest, RoundsToNearestEven) {
  std::vector<uint8_t> bytes(4 * 100'000);
  for (size_t i = 0; i < 100'000; ++i) {
    // Random bits, a quarter of them exactly half way between two bf16 numbers.
    auto bits = static_cast<uint32_t>(random_.Integer(0, 0xffffffff));
    if (i % 4 == 0) bits = (bits & 0xffff0000) | 0x8000;
    if ((bits & 0x7f800000) == 0x7f800000) bits &= 0xbfffffff;
    std::memcpy(bytes.data() + 4 * i, &bits, 4);
  }
  DeviceTensor wide(rig_, DType::kF32, {100'000});
  wide.SetBytes(bytes);
  const DeviceTensor narrow(rig_, DType::kBF16, {100'000});
  backend().Cast(stream(), {.source = wide, .destination = narrow});
  const std::vector<double> in = wide.Get();
  const std::vector<double> out = narrow.Get();
  for (size_t i = 0; i < in.size(); ++i) {
    // In units of the last place of bf16: nearbyint rounds ties to even.
    int exponent = 0;
    std::frexp(in[i], &exponent);
    const int unit = std::max(exponent - 8, -133);
    double expected = std::ldexp(std::nearbyint(std::ldexp(in[i], -unit)), unit);
    if (std::abs(expected) == 0x1p128) expected = std::copysign(INFINITY, expected);
    ASSERT_EQ(out[i], expected) << in[i];
  }
}

TEST_P(CopyTest, RefusesWrongArguments) {
  const DeviceTensor wide(rig_, DType::kF32, {16});
  const DeviceTensor other(rig_, DType::kF32, {16});
  const DeviceTensor narrow(rig_, DType::kBF16, {16});
  EXPECT_NO_THROW(Validate(CopyArgs{.source = wide, .destination = other}));
  EXPECT_THROW(Validate(CopyArgs{.source = wide, .destination = narrow}), CheckError);
  EXPECT_THROW(Validate(CopyArgs{.source = wide, .destination = wide}), CheckError);
  EXPECT_THROW(
      Validate(CopyArgs{.source = wide.view().Flat(0, 9), .destination = wide.view().Flat(7, 9)}),
      CheckError);
  EXPECT_NO_THROW(
      Validate(CopyArgs{.source = wide.view().Flat(0, 8), .destination = wide.view().Flat(8, 8)}));
  EXPECT_THROW(Validate(CopyArgs{.source = wide, .destination = other.view().Flat(0, 15)}),
               CheckError);
  EXPECT_THROW(Validate(CopyArgs{.source = {}, .destination = other}), CheckError);
  EXPECT_THROW(Validate(CopyArgs{.source = wide, .destination = {}}), CheckError);
  EXPECT_THROW(Validate(ZeroArgs{}), CheckError);
  EXPECT_NO_THROW(Validate(CastArgs{.source = wide, .destination = narrow}));
  EXPECT_THROW(Validate(CastArgs{.source = wide, .destination = other}), CheckError);
  EXPECT_THROW(Validate(CastArgs{.source = wide, .destination = narrow.view().Flat(0, 8)}),
               CheckError);
}

INSTANTIATE_TEST_SUITE_P(Backends, CopyTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
