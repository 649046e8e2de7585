#include "kernels/core/check.h"

namespace hearth {

void FailCheck(const char* file, int line, const char* condition, const std::string& message) {
  throw CheckError(Format("{}:{}: {} ({})", file, line, message, condition));
}

}  // namespace hearth
