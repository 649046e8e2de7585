// `hearth doctor` on this machine; what it finds is not judged, but how it says so.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

TEST(DoctorTest, JsonAndExitCodeAgreeAndNothingIsLeft) {
  const Workplace workplace;
  const ProgramResult result = workplace.Run({"doctor", "--json", "--dir", "."});
  const auto json = nlohmann::json::parse(result.output);
  EXPECT_EQ(result.exit_code, json.at("problems").get<int>() > 0 ? 1 : 0) << result.output;
  EXPECT_TRUE(workplace.Content().empty());
  int64_t problems = 0;
  for (const auto& finding : json.at("findings")) {
    problems += finding.at("state") == "problem";
    EXPECT_EQ(finding.at("state") == "ok", finding.at("remedy") == "") << finding.dump();
    // mpirun is here, or no test of ranks could run.
    if (finding.at("name") == "mpi" || finding.at("name") == "ranks") {
      EXPECT_NE(finding.at("state"), "problem") << finding.dump();
    }
  }
  EXPECT_EQ(problems, json.at("problems"));
}

TEST(DoctorTest, AProblemIsSaidAndTheExitCodeIsOne) {
  const Workplace workplace;
  workplace.Write("hosts", "no-such-host.invalid slots=1\n");
  const ProgramResult result = workplace.Run({"doctor", "--dir", "nothing", "--hostfile", "hosts"});
  EXPECT_EQ(result.exit_code, 1) << result.output << result.errors;
  EXPECT_NE(result.output.find("\nproblem  disk "), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("nothing can be written: No such file"), std::string::npos)
      << result.output;
  // Without ssh nothing can be said of the host.
  const bool has_ssh = result.output.find("\nproblem  ssh ") == std::string::npos;
  EXPECT_EQ(result.output.find("no-such-host.invalid") != std::string::npos, has_ssh)
      << result.output;
}

TEST(DoctorTest, AWrongHostfileIsRefused) {
  const Workplace workplace;
  workplace.Write("hosts", "a slots=two\n");
  const ProgramResult result = workplace.Run({"doctor", "--hostfile", "hosts"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.errors.rfind("hosts:1:3: error: ", 0), 0u) << result.errors;
}

}  // namespace
}  // namespace hearth::test
