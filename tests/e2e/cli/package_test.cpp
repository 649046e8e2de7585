// What `make install` and `make package` leave, used from a folder of its own.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

std::filesystem::path BuildFolder() {
  return std::filesystem::canonical(HEARTH_BINARY).parent_path();
}

// By the shell, its words in output.txt of the workplace. True when it succeeded.
bool Shell(const Workplace& workplace, const std::string& command) {
  return system(fmt::format("cd '{}' && ( {} ) >output.txt 2>&1 </dev/null",
                            workplace.folder().string(), command)
                    .c_str()) == 0;
}

bool Has(const std::string& program) {
  return system(fmt::format("command -v {} >/dev/null", program).c_str()) == 0;
}

// The program of that prefix says its version and finds the configs that came with it.
void ExpectWorks(const Workplace& workplace, const std::string& prefix) {
  ASSERT_TRUE(Shell(workplace, prefix + "/bin/hearth --version")) << workplace.Read("output.txt");
  EXPECT_EQ(workplace.Read("output.txt").rfind("hearth ", 0), 0u);
  workplace.Write("text.txt", std::string(40'000, 'a'));
  ASSERT_TRUE(Shell(workplace, prefix + "/bin/hearth prepare --input text.txt --output a.hearth"))
      << workplace.Read("output.txt");
  EXPECT_TRUE(
      Shell(workplace, prefix + "/bin/hearth validate configs/runs/quickstart.yaml --set "
                                "'data.datasets=[{path: a.hearth}]' --set data.eval_datasets=[]"))
      << workplace.Read("output.txt");
  EXPECT_NE(workplace.Read("output.txt").find(": fine: "), std::string::npos);
  EXPECT_FALSE(workplace.Exists("configs"));
  for (const char* file : {"/share/doc/hearth/README.md", "/share/doc/hearth/docs/training.md",
                           "/share/hearth/configs/models/tiny.yaml"}) {
    EXPECT_TRUE(workplace.Exists(prefix.substr(2) + file)) << file;
  }
}

TEST(PackageTest, InstalledBelowDestdirItWorks) {
  const Workplace workplace;
  ASSERT_TRUE(Shell(workplace,
                    fmt::format("DESTDIR=\"$PWD/stage\" cmake --install '{}' --prefix /opt/hearth",
                                BuildFolder().string())))
      << workplace.Read("output.txt");
  ExpectWorks(workplace, "./stage/opt/hearth");
}

TEST(PackageTest, TheDebianPackageAndTheTarballWork) {
  for (const char* program : {"cpack", "dpkg-shlibdeps", "dpkg-deb"}) {
    if (!Has(program)) GTEST_SKIP() << program << " is not installed";
  }
  const Workplace workplace;
  ASSERT_TRUE(Shell(workplace, fmt::format("cpack --config '{}/CPackConfig.cmake' -B \"$PWD/out\"",
                                           BuildFolder().string())))
      << workplace.Read("output.txt");
  ASSERT_TRUE(Shell(workplace, "dpkg-deb --field out/*.deb Depends"))
      << workplace.Read("output.txt");
  const std::string depends = workplace.Read("output.txt");
  for (const char* package : {"openmpi-bin", "libc6 (>= ", "libstdc++6 (>= ", "libopenmpi3",
                              "libyaml-cpp", "libboost-program-options", "libdnnl", "libhwy"}) {
    EXPECT_NE(depends.find(package), std::string::npos) << package << " is not in " << depends;
  }
  ASSERT_TRUE(Shell(workplace, "dpkg-deb --extract out/*.deb deb")) << workplace.Read("output.txt");
  ExpectWorks(workplace, "./deb/usr");
  ASSERT_TRUE(Shell(workplace, "mkdir tar && tar -xf out/*.tar.gz -C tar --strip-components=1"))
      << workplace.Read("output.txt");
  ExpectWorks(workplace, "./tar");
}

}  // namespace
}  // namespace hearth::test
