#include "launcher/shared_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/host_name.h"

namespace hearth {

void RequireSharedFolder(const std::filesystem::path& folder, Bootstrap& bootstrap) {
  if (bootstrap.local_world() == bootstrap.world()) return;
  // Of one host and process: no other run's file is taken for it.
  const std::string own = fmt::format(".seen-by-all-{}-{}", HostName(), getpid());
  const std::filesystem::path file = folder / ToText(bootstrap.Broadcast(ToBytes(own), 0));
  if (bootstrap.rank() == 0) std::ofstream(file) << own;
  bootstrap.Barrier();
  std::error_code error;
  const bool seen = std::filesystem::exists(file, error);
  const std::vector<Bytes> blind = bootstrap.AllGather(ToBytes(seen ? "" : HostName()));
  if (bootstrap.rank() == 0) std::filesystem::remove(file, error);
  std::vector<std::string> hosts;
  for (const Bytes& bytes : blind) {
    const std::string host = ToText(bytes);
    if (!host.empty() && std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
      hosts.push_back(host);
    }
  }
  if (hosts.empty()) return;
  throw ConfigError(fmt::format(
      "{}: error: not the same folder on {} as on rank 0's host; put output_dir on a file system "
      "that all hosts share",
      folder.string(), fmt::join(hosts, ", ")));
}

}  // namespace hearth
