#include "tests/support/backend_under_test.h"

#include <utility>

namespace hearth::test {

namespace {

std::string& Kind() {
  static std::string kind = "cpu";
  return kind;
}

}  // namespace

const std::string& BackendUnderTest() { return Kind(); }

void SetBackendUnderTest(std::string kind) { Kind() = std::move(kind); }

int RanksUnderTest(int wanted) { return BackendUnderTest() == "cpu" ? wanted : 1; }

std::string WhyNotSeveralRanks() {
  if (BackendUnderTest() == "cpu") return "";
  return "several ranks of one process do not share a GPU";
}

std::unique_ptr<KernelBackend> MakeBackendUnderTest(int threads) {
  return MakeBackend(BackendUnderTest(), {.threads = threads});
}

}  // namespace hearth::test
