#include "runtime/train/device_support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/core/error.h"

namespace hearth {
namespace {

const GpuInfo kA100{"NVIDIA A100", 80, 3}, kL4{"NVIDIA L4", 89, 0}, kH200{"NVIDIA H200", 90, 0};

ResolvedConfig RunWith(const std::string& compute_dtype) {
  return ParseConfig({.text = "model: {name_or_path: m}\ndata: {datasets: [{path: d}]}\n"
                              "training: {max_steps: 1}\nprecision: {compute_dtype: " +
                              compute_dtype + "}\n",
                      .file_name = "run.yaml"});
}

TEST(RequireFp8, NamesTheGpuTheKeyAndWhatToDo) {
  EXPECT_THAT([] { RequireFp8(RunWith("fp8"), kA100); },
              testing::ThrowsMessage<ConfigError>(
                  "run.yaml:4:28: error: precision.compute_dtype: fp8 needs a GPU of compute "
                  "capability 8.9 or later, GPU 3 is NVIDIA A100, compute capability 8.0; write "
                  "compute_dtype: bf16"));
}

TEST(RequireFp8, RefusesNothingElse) {
  EXPECT_NO_THROW(RequireFp8(RunWith("fp8"), kL4));
  EXPECT_NO_THROW(RequireFp8(RunWith("fp8"), kH200));
  EXPECT_NO_THROW(RequireFp8(RunWith("fp8"), std::nullopt));
  EXPECT_NO_THROW(RequireFp8(RunWith("bf16"), kA100));
  EXPECT_NO_THROW(RequireFp8(RunWith("fp32"), kA100));
}

}  // namespace
}  // namespace hearth
