// The main function of the GPU tests: the same sources as on the CPU, on the first GPU.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/support/backend_under_test.h"

namespace {

class NeedsGpu final : public testing::Environment {
 public:
  void SetUp() override {
    if (hearth::CudaDeviceCount() == 0) GTEST_SKIP() << "no GPU: " << hearth::WhyNoGpu();
  }
};

}  // namespace

int main(int argc, char** argv) {
  hearth::test::SetBackendUnderTest("cuda");
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest owns it
  return RUN_ALL_TESTS();
}
