#include "runtime/config/scalar_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

namespace hearth {
namespace {

using ::testing::HasSubstr;

TEST(ScalarText, IntegersAreRead) {
  EXPECT_EQ(ParseInteger("0").value, 0);
  EXPECT_EQ(ParseInteger("42").value, 42);
  EXPECT_EQ(ParseInteger("-7").value, -7);
  EXPECT_EQ(ParseInteger("1099511627776").value, int64_t{1} << 40);
}

TEST(ScalarText, LeadingZeroIsAnErrorAndNotOctal) {
  EXPECT_EQ(ParseInteger("010").problem, "'010' has a leading zero");
  EXPECT_EQ(ParseInteger("-08").problem, "'-08' has a leading zero");
  EXPECT_EQ(ParseInteger("00").problem, "'00' has a leading zero");
  EXPECT_EQ(ParseNumber("01.5").problem, "'01.5' has a leading zero");
}

TEST(ScalarText, SignPlusIsAnError) {
  EXPECT_EQ(ParseInteger("+1").problem, "'+1' has a sign +");
  EXPECT_EQ(ParseNumber("+1.5").problem, "'+1.5' has a sign +");
}

TEST(ScalarText, UnderscoreIsAnError) {
  EXPECT_EQ(ParseInteger("1_000").problem, "'1_000' has an underscore");
  EXPECT_EQ(ParseNumber("1_0.5").problem, "'1_0.5' has an underscore");
}

TEST(ScalarText, BasePrefixIsAnError) {
  for (const char* text : {"0x10", "0X1f", "0o17", "0b11", "-0x1"}) {
    EXPECT_THAT(ParseInteger(text).problem, HasSubstr("has a base prefix")) << text;
    EXPECT_THAT(ParseNumber(text).problem, HasSubstr("has a base prefix")) << text;
  }
}

TEST(ScalarText, FractionOrExponentIsNoInteger) {
  for (const char* text : {"1.0", "1e3", "2.5", "1E3", "-1e-3"}) {
    EXPECT_THAT(ParseInteger(text).problem, HasSubstr("has a fraction or an exponent")) << text;
  }
}

TEST(ScalarText, IntegersAboveTwoToTheFortyAreErrors) {
  for (const char* text : {"1099511627777", "-1099511627777", "9223372036854775807",
                           "9223372036854775808", "99999999999999999999999999"}) {
    EXPECT_THAT(ParseInteger(text).problem, HasSubstr("is beyond 2^40")) << text;
  }
}

TEST(ScalarText, NonsenseIsNoInteger) {
  for (const char* text : {"", "-", "abc", "1a", "1 2", "1,000", "--1", "12-", "0 ", " 1"}) {
    EXPECT_FALSE(ParseInteger(text).value.has_value()) << text;
    EXPECT_FALSE(ParseInteger(text).problem.empty()) << text;
  }
}

TEST(ScalarText, NumbersAreRead) {
  EXPECT_EQ(ParseNumber("3.0e-4").value, 3.0e-4);
  EXPECT_EQ(ParseNumber("1e-4").value, 1e-4);
  EXPECT_EQ(ParseNumber("1E+2").value, 100.0);
  EXPECT_EQ(ParseNumber("-0.5").value, -0.5);
  EXPECT_EQ(ParseNumber("7").value, 7.0);
  EXPECT_EQ(ParseNumber("0.1").value, 0.1);
}

TEST(ScalarText, NegativeZeroIsZero) { EXPECT_FALSE(std::signbit(*ParseNumber("-0.0").value)); }

TEST(ScalarText, NotANumberAndInfinityAreErrors) {
  for (const char* text : {".nan", ".NaN", ".NAN", ".inf", "-.inf", "+.inf", ".Inf", "nan", "inf",
                           "NaN", "infinity", "-inf"}) {
    EXPECT_FALSE(ParseNumber(text).value.has_value()) << text;
  }
}

TEST(ScalarText, OverflowAndUnderflowAreErrors) {
  for (const char* text : {"1e309", "-1e309", "1e999999999999", "1e-400"}) {
    EXPECT_THAT(ParseNumber(text).problem, HasSubstr("too large or too small")) << text;
  }
  EXPECT_EQ(ParseNumber("0e5").value, 0.0);
}

TEST(ScalarText, HalfNumbersAreErrors) {
  for (const char* text :
       {".5", "5.", "1e", "1e+", "e5", "1.e5", "1.5f", "0x1p3", "1..2", "1e5.5"}) {
    EXPECT_FALSE(ParseNumber(text).value.has_value()) << text;
  }
}

TEST(ScalarText, NumberTextReadsBackToTheSameBits) {
  uint64_t bits = 0x9E3779B97F4A7C15U;
  int tried = 0;
  for (int i = 0; i < 20000; ++i) {
    bits = bits * 6364136223846793005U + 1442695040888963407U;
    const auto value = std::bit_cast<double>(bits);
    if (!std::isfinite(value) || value == 0) continue;
    const Parsed<double> back = ParseNumber(NumberText(value));
    ASSERT_TRUE(back.value.has_value()) << NumberText(value) << ": " << back.problem;
    ASSERT_EQ(std::bit_cast<uint64_t>(*back.value), bits);
    ++tried;
  }
  EXPECT_GT(tried, 19000);
  EXPECT_EQ(NumberText(1.0), "1.0");
  EXPECT_EQ(NumberText(0.0003), "0.0003");
}

TEST(ScalarText, SizesAreRead) {
  EXPECT_EQ(ParseSize("512MiB").value, int64_t{512} << 20);
  EXPECT_EQ(ParseSize("1.5KiB").value, 1536);
  EXPECT_EQ(ParseSize("15.6GiB").value, 16750372454);
  EXPECT_EQ(ParseSize("2GB").value, 2'000'000'000);
  EXPECT_EQ(ParseSize("7B").value, 7);
  for (const char* text : {"", "5", "GiB", "5 GiB", "5Gib", "-1GiB", "+1GiB", "1e9TiB", "010MiB",
                           "5G", "0x5B", "1_0B", "nanGiB", "1.GiB"}) {
    EXPECT_FALSE(ParseSize(text).value.has_value()) << text;
  }
}

TEST(ScalarText, SizeTextReadsBack) {
  for (const int64_t bytes : {int64_t{1}, int64_t{1000}, int64_t{1024}, int64_t{16750372454},
                              int64_t{3} << 30, int64_t{1} << 50}) {
    EXPECT_EQ(ParseSize(SizeText(bytes)).value, bytes);
  }
  EXPECT_EQ(SizeText(int64_t{3} << 30), "3GiB");
}

}  // namespace
}  // namespace hearth
