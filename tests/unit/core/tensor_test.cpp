// CHECK, integer helpers, shapes, views and buffers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/core/buffer.h"
#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Check, ReportsPlaceConditionAndValues) {
  const int rows = 3;
  EXPECT_NO_THROW(CHECK(rows == 3, "{} rows", rows));
  EXPECT_THAT(
      [&] { CHECK(rows == 4, "{} rows of {}", rows, "x"); },
      ThrowsMessage<CheckError>(testing::AllOf(HasSubstr("tensor_test.cpp:"),
                                               HasSubstr("3 rows of x"), HasSubstr("rows == 4"))));
}

TEST(Check, FormatFillsHolesInOrder) {
  EXPECT_EQ(Format("no holes"), "no holes");
  EXPECT_EQ(Format("{}-{}", 1, 2.5), "1-2.5");
  EXPECT_EQ(Format("{} and {} left", "one"), "one and {} left");
  EXPECT_EQ(Format("too many", 1), "too many");
}

TEST(Narrow, KeepsOrFails) {
  EXPECT_EQ(Narrow<int32_t>(int64_t{-2'147'483'648}), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(Narrow<uint8_t>(255), 255);
  EXPECT_THROW(Narrow<int32_t>(int64_t{2'147'483'648}), CheckError);
  EXPECT_THROW(Narrow<uint8_t>(256), CheckError);
  EXPECT_THROW(Narrow<uint64_t>(int64_t{-1}), CheckError);
  EXPECT_THROW(Narrow<int64_t>(std::numeric_limits<uint64_t>::max()), CheckError);
}

TEST(Division, ExactAndRounded) {
  EXPECT_EQ(DivExact(12, 4), 3);
  EXPECT_THROW(DivExact(13, 4), CheckError);
  EXPECT_THROW(DivExact(13, 0), CheckError);
  EXPECT_EQ(DivUp(0, 4), 0);
  EXPECT_EQ(DivUp(12, 4), 3);
  EXPECT_EQ(DivUp(13, 4), 4);
  EXPECT_EQ(RoundUp(13, 16), 16);
  EXPECT_EQ(RoundUp(16, 16), 16);
}

TEST(Shape, ExtentsAndElements) {
  const Shape shape{3, 4, 5};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape[2], 5);
  EXPECT_EQ(shape.elements(), 60);
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ((Shape{0, 7}).elements(), 0);
  EXPECT_EQ((Shape{1 << 20, 1 << 20}).elements(), int64_t{1} << 40);
  EXPECT_EQ(Format("{}", shape), "[3, 4, 5]");
  EXPECT_TRUE((Shape{3, 4}) == (Shape{3, 4}));
  EXPECT_FALSE((Shape{3, 4}) == (Shape{3, 4, 1}));
  EXPECT_THROW(shape[3], CheckError);
  EXPECT_THROW((Shape{1, -1}), CheckError);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1}), CheckError);
}

TEST(TensorView, AbsentAndTyped) {
  EXPECT_FALSE(TensorView());
  std::vector<float> data(12);
  const TensorView view(data.data(), Shape{3, 4});
  EXPECT_TRUE(view);
  EXPECT_EQ(view.dtype(), DType::kF32);
  EXPECT_EQ(view.bytes(), 48);
  EXPECT_EQ(view.as<float>(), data.data());
  EXPECT_THROW(view.as<BFloat16>(), CheckError);
}

TEST(TensorView, RowsOfEveryRank) {
  std::vector<BFloat16> data(120);
  for (const Shape& shape : {Shape{5}, Shape{5, 4}, Shape{5, 4, 3}, Shape{5, 4, 3, 2}}) {
    const TensorView view(data.data(), shape);
    const TensorView rows = view.Rows(2, 3);
    EXPECT_EQ(rows.shape()[0], 3);
    EXPECT_EQ(rows.shape().rank(), shape.rank());
    EXPECT_EQ(rows.elements() * 5, view.elements() * 3);
    EXPECT_EQ(rows.as<BFloat16>() - data.data(), view.elements() / 5 * 2);
    EXPECT_NO_THROW(view.Rows(5, 0));
    EXPECT_THROW(view.Rows(2, 4), CheckError);
    EXPECT_THROW(view.Rows(-1, 1), CheckError);
    EXPECT_THROW(view.Rows(1, -1), CheckError);
  }
  EXPECT_THROW(TensorView(data.data(), Shape{}).Rows(0, 1), CheckError);
}

TEST(TensorView, OffsetsBeyondTwoToTheThirtyOne) {
  // Only addresses: nothing is read.
  std::byte base{};
  const TensorView view(&base, DType::kF32, Shape{int64_t{1} << 20, 1 << 13});
  const auto* row = static_cast<std::byte*>(view.Rows((1 << 20) - 1, 1).data());
  EXPECT_EQ(row - &base, ((int64_t{1} << 20) - 1) * (1 << 15));
}

TEST(TensorView, ReshapeAndFlat) {
  std::vector<int32_t> data(12);
  const TensorView view(data.data(), Shape{3, 4});
  EXPECT_EQ(view.Reshape({2, 6}).shape(), (Shape{2, 6}));
  EXPECT_THROW(view.Reshape({5}), CheckError);
  EXPECT_EQ(view.Flat(5, 3).as<int32_t>(), data.data() + 5);
  EXPECT_EQ(view.Flat(5, 3).shape(), Shape{3});
  EXPECT_THROW(view.Flat(10, 3), CheckError);
}

TEST(Buffer, FreesOnceAndMoves) {
  int freed = 0;
  std::vector<std::byte> memory(64);
  const auto deleter = [](void*, int64_t bytes, void* context) noexcept {
    *static_cast<int*>(context) += bytes == 64 ? 1 : 1000;
  };
  {
    Buffer first(memory.data(), 64, deleter, &freed);
    Buffer second(std::move(first));
    EXPECT_EQ(second.data(), memory.data());
    Buffer third;
    third = std::move(second);
    EXPECT_EQ(third.bytes(), 64);
    EXPECT_EQ(freed, 0);
    EXPECT_EQ(third.View(16, DType::kF32, {3, 4}).data(), memory.data() + 16);
    EXPECT_THROW(third.View(20, DType::kF32, {3, 4}), CheckError);
    EXPECT_THROW(third.View(-4, DType::kF32, {1}), CheckError);
    third = Buffer();
    EXPECT_EQ(freed, 1);
  }
  EXPECT_EQ(freed, 1);
}

}  // namespace
}  // namespace hearth::test
