// What the other tests here are told when their temporary folder is gone.
#include <gtest/gtest.h>

#include <filesystem>
#include <stdexcept>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

TEST(Workplace, SaysThatItsFolderIsGone) {
  const Workplace workplace;
  std::filesystem::remove_all(workplace.folder());
  const ProgramResult result = workplace.Run({"--version"});
  EXPECT_EQ(result.exit_code, 126);
  EXPECT_EQ(result.errors, workplace.folder().string() + ": No such file or directory\n");
  EXPECT_THROW(workplace.Write("run.yaml", "seed: 1\n"), std::runtime_error);
}

}  // namespace
}  // namespace hearth::test
