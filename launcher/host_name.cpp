#include "launcher/host_name.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <istream>

namespace hearth {

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string HostIdentity() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id") >> std::ws, boot);
  return HostName() + "\n" + boot;
}

}  // namespace hearth
