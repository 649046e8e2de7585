// The test program; started by itself, also the launcher and the ranks of the jobs it tests.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/e2e/processes/fake_job.h"

int main(int argc, char** argv) {
  const int code = hearth::test::RunFakeRole(std::vector<std::string>(argv, argv + argc));
  if (code >= 0) return code;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
