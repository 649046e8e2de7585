#include "kernels/core/gpu_info.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

const GpuInfo kT4{"Tesla T4", 75, 0}, kA100{"NVIDIA A100", 80, 1}, kH200{"NVIDIA H200", 90, 2};

TEST(GpuInfo, OldOnesAreLeftOutAndTheOthersKeepTheirPlace) {
  const std::vector<GpuInfo> usable = UsableOf({kT4, kA100, kH200});
  ASSERT_EQ(usable.size(), 2u);
  EXPECT_EQ(usable[0].ordinal, 1);
  EXPECT_EQ(usable[1].name, "NVIDIA H200");
  EXPECT_TRUE(UsableOf({kT4}).empty());
}

TEST(GpuInfo, WhyThereIsNone) {
  EXPECT_EQ(WhyNoneIsUsable({kT4, kA100}), "");
  EXPECT_EQ(WhyNoneIsUsable({}), "no GPU is visible (CUDA_VISIBLE_DEVICES?)");
  EXPECT_EQ(WhyNoneIsUsable({kT4, kT4}),
            "Hearth needs compute capability 8.0 or later, which none of 2 has "
            "(Tesla T4, compute capability 7.5)");
}

TEST(GpuInfo, IdentityIsWrittenAsNvidiasToolsDo) {
  const char uuid[16] = {'\x01', '\x23', '\x45', '\x67', '\x89', '\xab', '\xcd', '\xef',
                         '\x00', '\x10', '\x20', '\x30', '\x40', '\x50', '\x60', '\xff'};
  EXPECT_EQ(GpuIdentity(uuid), "GPU-01234567-89ab-cdef-0010-2030405060ff");
}

}  // namespace
}  // namespace hearth
