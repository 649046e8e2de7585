#include "launcher/link_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

LinkMachine Here() { return ThisMachine({"a", "b"}, /*gpus=*/false); }

LinkTable Table() {
  return {.machine = Here(), .device = "a CPU", .figures = {{"all-gather", "mpi", 8, 1.5}}};
}

TEST(LinkCache, KeepsATableAndFindsItAgain) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "deep" / "links.json";
  EXPECT_THAT(ReadLinks(file, Here()).why_not, HasSubstr("none yet"));
  WriteLinks(file, Table());
  LinkTable newer = Table();
  newer.figures[0].microseconds = 2;
  WriteLinks(file, newer);  // replaces it
  const CachedLinks links = ReadLinks(file, Here());
  ASSERT_TRUE(links.table) << links.why_not;
  EXPECT_EQ(*links.table, newer);
  // Nothing partial is left.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}), 1);
}

TEST(LinkCache, WhatIsStaleOrDamagedIsNotUsed) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "links.json";
  const auto why_not = [&](const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
    const CachedLinks links = ReadLinks(file, Here());
    EXPECT_FALSE(links.table) << text;
    EXPECT_EQ(links.why_not.find('\n'), std::string::npos);
    EXPECT_THAT(links.why_not, StartsWith(file.string()));
    return links.why_not;
  };
  LinkTable other = Table();
  other.machine.host = "elsewhere";
  EXPECT_THAT(why_not(LinkTableText(other)), HasSubstr("elsewhere"));
  other = Table();
  other.machine.devices[1] = "another GPU";
  EXPECT_THAT(why_not(LinkTableText(other)), HasSubstr("another GPU"));
  other = Table();
  other.machine.driver = "1.0";
  EXPECT_THAT(why_not(LinkTableText(other)), HasSubstr("driver"));
  other = Table();
  other.machine.program = "older";
  EXPECT_THAT(why_not(LinkTableText(other)), HasSubstr("older"));
  const std::string good = LinkTableText(Table());
  EXPECT_NE(why_not(""), "");
  EXPECT_NE(why_not(good.substr(0, good.size() - 10)), "");
  EXPECT_NE(why_not(std::string(100, '\0')), "");
  EXPECT_NE(why_not(good + std::string(2 << 20, ' ')), "");
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_FALSE(ReadLinks(file, Here()).table);
}

TEST(LinkCache, AFolderThatCannotBeMadeIsAnError) {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_THROW(WriteLinks(folder.path() / "file" / "links.json", Table()), IoError);
}

TEST(LinkCache, LiesWhereTheEnvironmentSays) {
  const char* before = getenv("XDG_CACHE_HOME");
  const std::optional<std::string> kept =
      before ? std::optional<std::string>(before) : std::nullopt;
  setenv("XDG_CACHE_HOME", "/some/cache", 1);
  EXPECT_EQ(CacheFolder(), "/some/cache/hearth");
  EXPECT_THAT(LinkCacheFile(true, 4).filename().string(), HasSubstr("-cuda-4.json"));
  EXPECT_NE(LinkCacheFile(true, 4), LinkCacheFile(false, 4));
  setenv("XDG_CACHE_HOME", "relative", 1);  // which the standard says to ignore
  EXPECT_THAT(CacheFolder().string(), ::testing::Not(HasSubstr("relative")));
  kept ? setenv("XDG_CACHE_HOME", kept->c_str(), 1) : unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace hearth
