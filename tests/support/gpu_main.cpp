// The main function of the GPU tests: the same sources as on the CPU, on the first GPU.
#include <gtest/gtest.h>

#include <cstdlib>

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
  // As the launcher does for ranks: no kernel is loaded while a stream waits for the host, and no
  // two streams share a queue of the device.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  hearth::test::SetBackendUnderTest("cuda");
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest owns it
  return RUN_ALL_TESTS();
}
