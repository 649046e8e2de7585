// Connections between all ranks of a bootstrap.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/tcp/tcp_socket.h"

namespace hearth {

struct TcpMesh {
  std::vector<Socket> sockets;  // one per rank, mine empty
  std::string network;          // in words: "eth0 (10.77.0.1)"
};

// Collective. By the device `interface`; where it is empty, by the first network to which all ranks
// belong with addresses of their own, and in which they reach each other within `timeout`. Nothing
// listens on any other network, nor after the call, and who does not know the job's token is turned
// away. UnreachableError on all ranks alike, with what was tried, when no network will do; what
// else goes wrong is an error of the rank it happens to.
TcpMesh ConnectMesh(Bootstrap& bootstrap, const std::string& interface,
                    std::chrono::milliseconds timeout);

}  // namespace hearth
