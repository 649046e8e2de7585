#include "runtime/plan/host_rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

HostRates Rates() {
  return {.host = "box-1",
          .processor = "A \"fast\" CPU",
          .program = "0.1",
          .threads = 16,
          .memory_gbps = 120.5,
          .adamw_gbps = 100,
          .adamw_stochastic_gbps = 60.25};
}

std::string ErrorOf(const std::string& text) {
  try {
    ParseHostRates(text, "host.json");
  } catch (const IoError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(HostRates, ReadBackAsTheyAreWritten) {
  EXPECT_EQ(ParseHostRates(HostRatesText(Rates()), "host.json"), Rates());
}

TEST(HostRates, WhatIsWrongIsNamedWithItsPlace) {
  const std::string good = HostRatesText(Rates());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return ErrorOf(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_THAT(with("120.5", "0"), StartsWith("host.json:7:"));
  EXPECT_THAT(with("120.5", "-1"), HasSubstr("run hearth probe again"));
  EXPECT_THAT(with("120.5", "1e7"), HasSubstr("run hearth probe again"));
  EXPECT_THAT(with("\"threads\": 16", "\"threads\": 0"), StartsWith("host.json:6:"));
  EXPECT_THAT(with("\"host_version\": 1", "\"host_version\": 2"), HasSubstr("another version"));
  EXPECT_THAT(with("adamw_stochastic_gbps", "adamw"), HasSubstr("adamw_stochastic_gbps"));
  for (size_t length = 0; length + 2 < good.size(); ++length) {
    EXPECT_NE(ErrorOf(good.substr(0, length)), "accepted") << length;
  }
}

TEST(HostRates, OnlyThisHostsCount) {
  HostRates here = Rates();
  here.memory_gbps = 1;  // figures and threads are no matter
  here.threads = 1;
  EXPECT_EQ(WhyStale(Rates(), here), "");
  here.processor = "another CPU";
  EXPECT_THAT(WhyStale(Rates(), here), HasSubstr("another CPU"));
  here = Rates();
  here.host = "box-2";
  EXPECT_THAT(WhyStale(Rates(), here), HasSubstr("box-2"));
  here = Rates();
  here.program = "0.2";
  EXPECT_THAT(WhyStale(Rates(), here), HasSubstr("0.2"));
}

TEST(HostRates, RanksOfAHostShareThem) {
  const HardwareProfile card = SlowCard();
  const HardwareProfile here = WithHost(card, Rates(), 2);
  EXPECT_EQ(here.memory_gbps, 60.25);
  EXPECT_EQ(here.adamw_gbps, 50);
  EXPECT_EQ(here.adamw_stochastic_gbps, 30.125);
  HardwareProfile rest = here;
  rest.memory_gbps = card.memory_gbps;
  rest.adamw_gbps = card.adamw_gbps;
  rest.adamw_stochastic_gbps = card.adamw_stochastic_gbps;
  EXPECT_EQ(rest, card);
  HardwareProfile cpu = card;
  cpu.is_gpu = false;
  EXPECT_EQ(WithHost(cpu, Rates(), 2), cpu);
}

}  // namespace
}  // namespace hearth::test
