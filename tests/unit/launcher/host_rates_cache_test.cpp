#include "launcher/host_rates_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

HostRates Measured() {
  HostRates rates = ThisHost();
  rates.threads = 2;
  rates.memory_gbps = 60;
  rates.adamw_gbps = 50;
  rates.adamw_stochastic_gbps = 30;
  return rates;
}

TEST(HostRatesCache, KeepsThemAndFindsThemAgain) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "deep" / "host.json";
  EXPECT_THAT(ReadHostRates(file, ThisHost()).why_not, HasSubstr("none yet"));
  WriteHostRates(file, Measured());
  const CachedRates cached = ReadHostRates(file, ThisHost());
  ASSERT_TRUE(cached.rates) << cached.why_not;
  EXPECT_EQ(*cached.rates, Measured());
}

TEST(HostRatesCache, WhatIsStaleOrDamagedIsNotUsed) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "host.json";
  const auto why_not = [&](const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
    const CachedRates cached = ReadHostRates(file, ThisHost());
    EXPECT_FALSE(cached.rates) << text;
    EXPECT_EQ(cached.why_not.find('\n'), std::string::npos);
    EXPECT_THAT(cached.why_not, StartsWith(file.string()));
    return cached.why_not;
  };
  HostRates other = Measured();
  other.host = "elsewhere";
  EXPECT_THAT(why_not(HostRatesText(other)), HasSubstr("elsewhere"));
  const std::string good = HostRatesText(Measured());
  EXPECT_NE(why_not(""), "");
  EXPECT_NE(why_not(good.substr(0, good.size() / 2)), "");
  EXPECT_NE(why_not(std::string(100, '\0')), "");
  EXPECT_NE(why_not(good + std::string(2 << 20, ' ')), "");
  EXPECT_THAT(ReadHostRates({}, ThisHost()).why_not, HasSubstr("HOME"));
}

}  // namespace
}  // namespace hearth
