// The targets under libFuzzer: the program's name, fuzz_<target>, says which one runs.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/corpus.h"

namespace {

const hearth::test::FuzzTarget*& Chosen() {
  static const hearth::test::FuzzTarget* chosen = nullptr;
  return chosen;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kWrite = "--write-corpus=";
  constexpr std::string_view kPrefix = "fuzz_";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = (*argv)[i];
    if (!argument.starts_with(kWrite)) continue;
    hearth::test::WriteCorpora(argument.substr(kWrite.size()));
    std::exit(0);
  }
  std::string_view name = (*argv)[0];
  name.remove_prefix(name.rfind('/') + 1);
  if (name.starts_with(kPrefix)) Chosen() = hearth::test::FindFuzzTarget(name.substr(5));
  if (Chosen() == nullptr) {
    std::fprintf(stderr, "start this under the name fuzz_TARGET\n");
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return Chosen()->run(data, size);
}
