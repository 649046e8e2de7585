// The main function of the GPU tests: the same sources as on the CPU, on the first GPU. With
// --ranks, under mpirun, the tests of several ranks instead.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/support/backend_under_test.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/multirank_run.h"

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
  // As the launcher does too: other users of the box may lose their GPUs to it.
  setenv("NCCL_NVLS_ENABLE", "0", 0);
  hearth::test::SetBackendUnderTest("cuda");
  const std::string of_ranks = std::string(hearth::test::kGpuRanksPrefix) + "*";
  if (argc > 1 && std::string_view(argv[1]) == "--ranks") {
    std::string& filter = testing::GTEST_FLAG(filter);  // already what GTEST_FILTER says
    if (filter == "*") filter.clear();
    if (filter.empty() || filter[0] == '-') filter.insert(0, of_ranks);
    testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest owns it
    argv[1] = argv[0];
    return hearth::test::RunAsRank(argc - 1, argv + 1);
  }
  testing::InitGoogleTest(&argc, argv);
  std::string& filter = testing::GTEST_FLAG(filter);
  filter += (filter.find('-') == std::string::npos ? "-" : ":") + of_ranks;
  testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest owns it
  return RUN_ALL_TESTS();
}
