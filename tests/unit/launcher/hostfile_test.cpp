#include "launcher/hostfile.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "kernels/core/error.h"

namespace hearth {
namespace {

std::string ErrorOf(const std::string& text) {
  try {
    ParseHostfile(text, "hosts");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(HostfileTest, ReadsHostsSlotsAndComments) {
  const auto hosts =
      ParseHostfile("# two boxes\n\nbox-1.local slots=4\r\n  10.0.0.2\t# one\n", "hosts");
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].name, "box-1.local");
  EXPECT_EQ(hosts[0].slots, 4);
  EXPECT_EQ(hosts[1].name, "10.0.0.2");
  EXPECT_EQ(hosts[1].slots, 1);
  EXPECT_EQ(TotalSlots(hosts), 5);
  EXPECT_EQ(FormatHostfile(hosts), "box-1.local slots=4\n10.0.0.2 slots=1\n");
}

TEST(HostfileTest, NamesThePlaceOfWhatItRefuses) {
  EXPECT_EQ(ErrorOf("a slots=2\n b;c\n"), "hosts:2:2: error: not a host name; write HOST slots=N");
  for (const char* name : {"fd00::2", "::1", "[::1]", "box-1:4"}) {
    EXPECT_EQ(ErrorOf(name),
              "hosts:1:1: error: ':' in a host's name; write its ranks as slots=N, and for an IPv6 "
              "address, which mpirun does not take, a name");
  }
  EXPECT_EQ(ErrorOf("-oProxyCommand=x\n"), "hosts:1:1: error: not a host name; write HOST slots=N");
  EXPECT_EQ(ErrorOf("a slots=0\n"),
            "hosts:1:3: error: not a number of ranks from 1 to 1024; write slots=N");
  for (const char* slots :
       {"slots=", "slots=1x", "slots=-1", "slots=99999999999", "max_slots=2", "2"}) {
    EXPECT_NE(ErrorOf(std::string("a ") + slots), "") << slots;
  }
  EXPECT_EQ(ErrorOf("a slots=1 b\n"),
            "hosts:1:11: error: more than a host and its slots; write HOST slots=N");
  EXPECT_EQ(ErrorOf("a\nb slots=2\na slots=3\n"),
            "hosts:3:1: error: named twice; give it one line with all slots");
  EXPECT_EQ(ErrorOf("# nobody\n"), "hosts: error: no hosts; write one HOST slots=N a line");
}

TEST(HostfileTest, KnowsThisHost) {
  char own[256] = {};
  gethostname(own, sizeof(own) - 1);
  EXPECT_TRUE(AreLocal({{.name = "localhost"}, {.name = own}}));
  EXPECT_FALSE(AreLocal({{.name = "localhost"}, {.name = "elsewhere.example"}}));
  EXPECT_TRUE(AreLocal({}));
}

}  // namespace
}  // namespace hearth
