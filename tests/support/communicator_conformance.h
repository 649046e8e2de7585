// What every communicator must do, as cases that run on any kind: each rank of a world calls the
// same case at the same time.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "comm/api/bootstrap.h"
#include "kernels/api/kernel_backend.h"

namespace hearth::test {

struct ConformanceRank {
  std::string_view kind;  // for MakeCommunicator
  Bootstrap& bootstrap;
  KernelBackend& backend;
};

struct ConformanceCase {
  std::string name;
  void (*run)(const ConformanceRank& rank);
};
// For GoogleTest's messages.
inline std::ostream& operator<<(std::ostream& out, const ConformanceCase& test) {
  return out << test.name;
}

// Results are compared bit by bit with a serial oracle in rank order.
const std::vector<ConformanceCase>& CommunicatorCases();
// What happens when a rank does not come.
const std::vector<ConformanceCase>& CommunicatorFailureCases();
const std::vector<ConformanceCase>& BootstrapCases();

// All of the above.
std::vector<ConformanceCase> ConformanceCases();

}  // namespace hearth::test
