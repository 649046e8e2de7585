// What a device tells about itself is absent or believable.
#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

class DeviceHealthTest : public testing::TestWithParam<std::string> {};

TEST_P(DeviceHealthTest, TellsWhatCanBeTrueOrNothing) {
  const auto backend = MakeBackend(GetParam(), {});
  const std::optional<DeviceHealth> health = backend->device().Health();
  if (backend->device().kind() == DeviceType::kCpu) {
    EXPECT_FALSE(health);
    return;
  }
  if (!health) GTEST_SKIP() << "this GPU's driver comes without its management library";
  const auto within = [](const auto& value, double low, double high) {
    return !value || (static_cast<double>(*value) > low && static_cast<double>(*value) < high);
  };
  EXPECT_TRUE(within(health->clock_mhz, 50, 5'000)) << *health->clock_mhz;
  EXPECT_TRUE(within(health->memory_clock_mhz, 50, 50'000)) << *health->memory_clock_mhz;
  EXPECT_TRUE(within(health->power_w, 1, 3'000)) << *health->power_w;
  EXPECT_TRUE(within(health->temperature_c, 1, 120)) << *health->temperature_c;
  EXPECT_TRUE(within(health->memory_bytes, 1e9, 1e12)) << *health->memory_bytes;
  if (health->memory_bytes && health->used_memory_bytes) {
    EXPECT_LE(*health->used_memory_bytes, *health->memory_bytes);
  }
  // A library that tells nothing at all would pass all of the above.
  EXPECT_TRUE(health->clock_mhz || health->power_w || health->temperature_c);
}

INSTANTIATE_TEST_SUITE_P(Backends, DeviceHealthTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
