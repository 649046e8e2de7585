// `hearth probe` and `bench links` from outside; their figures are not judged here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

// Where the program keeps its tables, while it lives.
class CacheFolder {
 public:
  explicit CacheFolder(const std::filesystem::path& folder) {
    if (const char* value = getenv("XDG_CACHE_HOME")) before_ = value;
    setenv("XDG_CACHE_HOME", folder.c_str(), 1);
  }
  ~CacheFolder() {
    before_ ? setenv("XDG_CACHE_HOME", before_->c_str(), 1) : unsetenv("XDG_CACHE_HOME");
  }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;

 private:
  std::optional<std::string> before_;
};

TEST(ProbeTest, MeasuresEveryDirectionAndKeepsTheTable) {
  const Workplace workplace;
  const CacheFolder cache(workplace.folder() / "cache");
  const ProgramResult result =
      workplace.Run({"probe", "--device", "cpu", "-n", "2", "--out", "links.json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const auto table = nlohmann::json::parse(workplace.Read("links.json"));
  EXPECT_EQ(table.at("devices").size(), 2u);
  EXPECT_TRUE(table.at("problems").empty()) << table.at("problems");
  ASSERT_EQ(table.at("directions").size(), 2u);
  for (const auto& direction : table.at("directions")) {
    EXPECT_EQ(direction.at("way"), "mpi");
    EXPECT_FALSE(!(direction.at("gb_per_s").get<double>() > 0));
    EXPECT_FALSE(!(direction.at("both_gb_per_s").get<double>() > 0));
  }
  EXPECT_EQ(table.at("figures").size(), 7u);  // gathers and sums of three sizes, small sums
  EXPECT_THAT(result.output, HasSubstr("comm.backend: auto: all-gather by mpi; reduce-scatter by "
                                       "mpi; all-reduce by mpi"));
  std::string table_kept;
  std::string host_kept;
  for (const auto& file :
       std::filesystem::directory_iterator(workplace.folder() / "cache" / "hearth")) {
    const std::string name = file.path().filename().string();
    (name.starts_with("host-") ? host_kept : table_kept) = name;
  }
  EXPECT_THAT(table_kept, HasSubstr("-cpu-2.json"));
  EXPECT_EQ(workplace.Read("cache/hearth/" + table_kept), workplace.Read("links.json"));
  const auto host = nlohmann::json::parse(workplace.Read("cache/hearth/" + host_kept));
  for (const char* rate : {"memory_gbps", "adamw_gbps", "adamw_stochastic_gbps"}) {
    EXPECT_FALSE(!(host.at(rate).get<double>() > 0)) << rate;
    EXPECT_FALSE(!(host.at(rate).get<double>() <= host.at("memory_gbps").get<double>())) << rate;
  }
  EXPECT_THAT(result.output, HasSubstr("host memory "));
}

TEST(ProbeTest, RefusesWhatItCannotDo) {
  const Workplace workplace;
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"probe", "-n", "1"},
                                                    {"probe", "-n", "1000"},
                                                    {"probe", "--device", "tpu"},
                                                    {"probe", "--timeout", "0"},
                                                    {"probe", "--as-rank", "--places", "0,x"},
                                                    {"bench", "links", "-n", "1"},
                                                    {"bench", "links", "run.yaml"},
                                                    {"bench", "links", "--learning-rate", "1"},
                                                    {"bench", "cpu", "--no-peer-access"}}) {
    const ProgramResult result = workplace.Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments.back() << result.errors;
    EXPECT_THAT(result.errors, HasSubstr("command line: error: "));
  }
}

TEST(BenchLinksTest, PrintsATableAndALineOfJson) {
  const Workplace workplace;
  const ProgramResult result =
      workplace.Run({"bench", "links", "-n", "2", "--repetitions", "1", "--device", "cpu"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const size_t end = result.output.find_last_not_of('\n') + 1;
  const size_t begin = result.output.rfind('\n', end - 1) + 1;
  const auto json = nlohmann::json::parse(result.output.substr(begin, end - begin));
  EXPECT_EQ(json.at("bench"), "links");
  EXPECT_EQ(json.at("ranks"), 2);
  EXPECT_EQ(json.at("cases").size(), 7u);
  int beside_matmuls = 0;
  for (const auto& measured : json.at("cases")) {
    if (!measured.contains("matmul_slowdown")) continue;
    ++beside_matmuls;
    EXPECT_GT(measured.at("matmul_slowdown"), -1);
    EXPECT_EQ(measured.at("bytes"), 16 << 20);
  }
  EXPECT_EQ(beside_matmuls, 2);
  EXPECT_THAT(result.output, HasSubstr("reduce-scatter"));
}

}  // namespace
}  // namespace hearth::test
