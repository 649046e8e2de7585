// What only connections of our own have: how ranks find each other, and how connections end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/tcp/tcp_transport.h"
#include "tests/support/communicator_rig.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLong{60};
constexpr std::chrono::milliseconds kShort{700};

std::string ErrorOfMaking(Bootstrap& bootstrap, const std::string& interface,
                          std::chrono::milliseconds timeout = kLong) {
  try {
    const TcpTransport transport(bootstrap, interface, timeout);
  } catch (const UnreachableError& error) {
    return error.what();
  }
  return "";
}

// The threads have the addresses of one host, as have bridges that lead nowhere.
TEST(Tcp, AnAddressThatTwoRanksHaveIsNoNetwork) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    EXPECT_EQ(ErrorOfMaking(rank.bootstrap, ""), "the ranks have no network in common");
  });
}

TEST(Tcp, AllRanksHearOfADeviceThatOneDoesNotHave) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    const std::string device = rank.bootstrap.rank() == 1 ? "nowhere0" : "lo";
    EXPECT_THAT(ErrorOfMaking(rank.bootstrap, device), HasSubstr("not all ranks have an address"));
    // Nothing of it is left in the way.
    EXPECT_EQ(ErrorOfMaking(rank.bootstrap, "lo"), "");
  });
}

// Another's bootstrap, whose all-gathers end with a call of `meddle`.
class MeddledBootstrap final : public Bootstrap {
 public:
  using Meddle = std::function<void(const Bytes& mine, std::vector<Bytes>& all)>;
  MeddledBootstrap(Bootstrap& inner, Meddle meddle) : inner_(inner), meddle_(std::move(meddle)) {}
  int rank() const override { return inner_.rank(); }
  int world() const override { return inner_.world(); }
  int local_rank() const override { return inner_.local_rank(); }
  int local_world() const override { return inner_.local_world(); }
  int job_rank(int rank) const override { return inner_.job_rank(rank); }
  std::unique_ptr<Bootstrap> Split(int color) override { return inner_.Split(color); }
  Bytes Broadcast(const Bytes& mine, int root) override { return inner_.Broadcast(mine, root); }
  void Barrier() override { inner_.Barrier(); }
  [[noreturn]] void Abort(int, std::string_view why) override { throw CommError(std::string(why)); }
  std::vector<Bytes> AllGather(const Bytes& mine) override {
    std::vector<Bytes> all = inner_.AllGather(mine);
    meddle_(mine, all);
    return all;
  }

 private:
  Bootstrap& inner_;
  const Meddle meddle_;
};

constexpr IpAddress kLoopback{.version = 4, .bytes = {127, 0, 0, 1}};

// What the ranks tell each other of the ports they listen on.
bool ArePorts(const Bytes& mine) { return mine.size() == sizeof(uint16_t); }

Socket CallPort(const Bytes& port_bytes) {
  uint16_t port = 0;
  std::memcpy(&port, port_bytes.data(), sizeof(port));
  return Connect(kLoopback, port, Clock::now() + kLong);
}

void ExpectTurnedAway(const Socket& stranger) {
  pollfd entry{.fd = stranger.descriptor(), .events = POLLIN, .revents = 0};
  ASSERT_TRUE(AwaitEvents(std::span(&entry, 1), Clock::now() + kLong));
  std::array<std::byte, 1> answer{};
  EXPECT_EQ(ReceiveSome(stranger, answer), -1);
}

void ExpectMessages(TcpTransport& transport, int64_t sequence, int64_t bytes) {
  std::vector<Bytes> sent;
  std::vector<Bytes> received;
  ExchangeArgs args{.sequence = sequence};
  for (int peer = 0; peer < transport.world(); ++peer) {
    sent.emplace_back(static_cast<size_t>(bytes));
    received.emplace_back(static_cast<size_t>(bytes));
    for (int64_t i = 0; i < bytes; ++i) {
      sent.back()[static_cast<size_t>(i)] = TestByte(transport.rank(), i + peer);
    }
    if (peer == transport.rank()) continue;
    args.sends.push_back({.peer = peer, .data = sent.back().data(), .bytes = bytes});
    args.receives.push_back({.peer = peer, .data = received.back().data(), .bytes = bytes});
  }
  transport.Exchange(args);
  for (int peer = 0; peer < transport.world(); ++peer) {
    if (peer == transport.rank()) continue;
    int64_t wrong = 0;
    for (int64_t i = 0; i < bytes; ++i) {
      wrong += received[static_cast<size_t>(peer)][static_cast<size_t>(i)] !=
               TestByte(peer, i + transport.rank());
    }
    EXPECT_EQ(wrong, 0) << "of " << bytes << " bytes from rank " << peer;
  }
}

// Strangers call the port of each rank the moment it is told, before the ranks do.
TEST(Tcp, WhoDoesNotKnowTheTokenIsTurnedAway) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    std::vector<Socket> strangers;
    MeddledBootstrap meddled(rank.bootstrap, [&](const Bytes& mine, std::vector<Bytes>& all) {
      if (!ArePorts(mine)) return;
      for (const Bytes& port : all) {
        strangers.push_back(CallPort(port));
        const std::array<std::byte, 20> guess{};
        SendAll(strangers.back(), guess, Clock::now() + kLong);
      }
      rank.bootstrap.Barrier();
    });
    TcpTransport transport(meddled, "lo", kLong);
    EXPECT_EQ(transport.network(), "lo (127.0.0.1)");
    ASSERT_EQ(strangers.size(), 3u);
    for (const Socket& stranger : strangers) ExpectTurnedAway(stranger);
    ExpectMessages(transport, 1, 1000);
  });
}

// Nor do those who say nothing, or begin to, keep the ranks from each other: more of them than may
// stay, and less time than all of them would take one by one.
TEST(Tcp, WhoeverCallsAndIsSilentKeepsNobodyWaiting) {
  constexpr int kStrangers = 300;
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    std::vector<Socket> strangers;
    MeddledBootstrap meddled(rank.bootstrap, [&](const Bytes& mine, std::vector<Bytes>& all) {
      if (!ArePorts(mine)) return;
      for (int i = 0; rank.bootstrap.rank() == 1 && i < kStrangers; ++i) {
        strangers.push_back(CallPort(all[0]));
        const std::array<std::byte, 7> begun{};
        SendAll(strangers.back(), std::span(begun).first(static_cast<size_t>(i % 7)),
                Clock::now() + kLong);
      }
    });
    TcpTransport transport(meddled, "lo", kLong);
    ExpectMessages(transport, 1, 1000);
    for (const Socket& stranger : strangers) ExpectTurnedAway(stranger);
  });
}

// A rank that is refused waits, by the bootstrap, for one that still waits to be called.
TEST(Tcp, AllRanksHearOfARefusedCallWithinTheirTimeOut) {
  constexpr std::chrono::milliseconds kTimeout{4'000};
  InprocWorldOptions options{.ranks = 2};
  options.bootstrap.collective_timeout = kTimeout;
  RunInprocWorld(options, [&](InprocRank& rank) {
    MeddledBootstrap meddled(rank.bootstrap, [&](const Bytes& mine, std::vector<Bytes>& all) {
      const uint16_t nobodys = 1;
      if (ArePorts(mine)) std::memcpy(all[0].data(), &nobodys, sizeof(nobodys));
    });
    EXPECT_THAT(ErrorOfMaking(meddled, "lo", kTimeout),
                HasSubstr("connecting to 127.0.0.1: Connection refused"));
    rank.bootstrap.Barrier();
  });
}

TEST(Tcp, AllRanksHearWhyOneCannotListen) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    int calls = 0;
    MeddledBootstrap meddled(rank.bootstrap, [&](const Bytes&, std::vector<Bytes>& all) {
      constexpr IpAddress nobodys{.version = 4, .bytes = {192, 0, 2, 1}};  // of documentation
      // The first call is of the addresses.
      if (++calls == 1) std::memcpy(all[1].data(), &nobodys, sizeof(nobodys));
    });
    EXPECT_THAT(ErrorOfMaking(meddled, "lo"), HasSubstr("listening on 192.0.2.1: "));
  });
}

bool HasV6(const std::vector<HostAddress>& addresses) {
  return !addresses.empty() && addresses.back().address.version == 6;
}

// IPv4 is taken where all have it.
TEST(Tcp, RanksOfWhichOneHasNoIPv4AddressMeetByIPv6) {
  const std::vector<HostAddress> loopback = HostAddresses("lo");
  if (!HasV6(loopback)) GTEST_SKIP() << "lo has no IPv6 address here";
  RunInprocWorld({.ranks = 3}, [&](InprocRank& rank) {
    int calls = 0;
    MeddledBootstrap meddled(rank.bootstrap, [&](const Bytes&, std::vector<Bytes>& all) {
      if (++calls > 1) return;
      // Of its addresses, all of one size, the last is left.
      const size_t one = all[1].size() / loopback.size();
      all[1].erase(all[1].begin(), all[1].end() - static_cast<std::ptrdiff_t>(one));
    });
    TcpTransport transport(meddled, "lo", kLong);
    EXPECT_EQ(transport.network(), "lo (::1)");
    ExpectMessages(transport, 1, 1000);
  });
}

TEST(Tcp, AddressesOfALinkAloneAreNone) {
  for (const HostAddress& each : HostAddresses("")) {
    EXPECT_THAT(AddressText(each.address), testing::Not(testing::StartsWith("fe8"))) << each.device;
  }
}

TEST(Tcp, AnIPv6AddressThatNobodyAnswersIsNamed) {
  if (!HasV6(HostAddresses("lo"))) GTEST_SKIP() << "lo has no IPv6 address here";
  IpAddress loopback{.version = 6};
  loopback.bytes[15] = 1;
  try {
    Connect(loopback, 1, Clock::now() + kLong);
    ADD_FAILURE() << "no error";
  } catch (const UnreachableError& error) {
    EXPECT_STREQ(error.what(), "connecting to ::1: Connection refused");
  }
}

// A caller who is not accepted would make the listener ready for ever.
TEST(Tcp, WithoutADescriptorAcceptingFails) {
  const Socket listener = Listen(kLoopback);
  const Socket caller = Connect(kLoopback, PortOf(listener), Clock::now() + kLong);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_THROW(Accept(listener), CommError);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(Accept(listener));
  EXPECT_FALSE(Accept(listener));
}

// Not to be taken for a network by which there is no way.
TEST(Tcp, WhatAHostIsShortOfIsNoFaultOfTheNetwork) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string error;
  try {
    Listen(kLoopback);
  } catch (const UnreachableError&) {
    error = "the network's fault";
  } catch (const CommError& caught) {
    error = caught.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(error, "socket: Too many open files");
}

// A rank that is silent in the bootstrap is lost by whatever way; the others must not take another.
TEST(Tcp, BoxesWithASilentRankDoNotGoByMpi) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    MeddledBootstrap meddled(rank.bootstrap, [](const Bytes&, std::vector<Bytes>&) {
      throw CommError("no answer from rank 1");
    });
    try {
      MakeNetworkCommunicator(meddled, rank.backend, {.interface = "lo"});
      ADD_FAILURE() << "no error";
    } catch (const CommError& error) {
      EXPECT_STREQ(error.what(), "no answer from rank 1");
    }
  });
}

// Each connects by a token and ports of its own, at the same time; the numbers tell whose message
// one is.
TEST(Tcp, JobsOnOneHostDoNotMeet) {
  RunInprocWorld({.ranks = 6}, [](InprocRank& rank) {
    const int job = rank.bootstrap.rank() % 2;
    const std::unique_ptr<Bootstrap> ranks_of_job = rank.bootstrap.Split(job);
    TcpTransport transport(*ranks_of_job, "lo", kLong);
    for (int64_t call = 0; call < 10; ++call) ExpectMessages(transport, 100 * job + call, 1000);
  });
}

// More than what the kernel takes, so that both sides have to send and receive at once.
TEST(Tcp, LargeMessagesCrossEachOther) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    TcpTransport transport(rank.bootstrap, "lo", kLong);
    int64_t sequence = 0;
    for (int64_t bytes : {int64_t{1}, int64_t{0}, int64_t{24} << 20, int64_t{70'001}}) {
      ExpectMessages(transport, ++sequence, bytes);
    }
  });
}

TEST(Tcp, ARankAtAnotherNumberIsNamed) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    TcpTransport transport(rank.bootstrap, "lo", kLong);
    const int me = rank.bootstrap.rank();
    try {
      ExpectMessages(transport, 7 + me, 8);
      ADD_FAILURE() << "no error";
    } catch (const CommError& error) {
      EXPECT_EQ(std::string(error.what()), me == 0 ? "rank 1 is at number 8 instead of 7"
                                                   : "rank 0 is at number 7 instead of 8");
    }
    rank.bootstrap.Barrier();  // neither ends before the other has read
  });
}

TEST(Tcp, AConnectionThatEndsIsNamedWhenItsTimeIsOver) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    auto transport = std::make_unique<TcpTransport>(
        rank.bootstrap, ConnectMesh(rank.bootstrap, "lo", kLong), kShort);
    rank.bootstrap.Barrier();
    if (rank.bootstrap.rank() == 1) {
      transport.reset();
    } else {
      const auto begin = Clock::now();
      try {
        ExpectMessages(*transport, 1, 1000);
        ADD_FAILURE() << "no error";
      } catch (const CommError& error) {
        EXPECT_STREQ(error.what(), "the connection to rank 1 has ended");
      }
      EXPECT_GE(Clock::now() - begin, kShort);
      EXPECT_LT(Clock::now() - begin, std::chrono::seconds(30));
    }
    rank.bootstrap.Barrier();
  });
}

// What TcpTransport sends before each message.
struct WireHeader {
  int64_t sequence = 0;
  int64_t bytes = 0;
};

// What rank 0 says when rank 1 sends these bytes, then ends or falls silent, in place of a message
// number 5 of 1,000 bytes.
std::string ErrorAfter(const Bytes& sent, bool ends) {
  std::string error;
  RunInprocWorld({.ranks = 2}, [&](InprocRank& rank) {
    if (rank.bootstrap.rank() == 1) {
      TcpMesh mesh = ConnectMesh(rank.bootstrap, "lo", kLong);
      SendAll(mesh.sockets[0], sent, Clock::now() + kLong);
      if (ends) mesh.sockets.clear();
      rank.bootstrap.Barrier();
      return;
    }
    TcpTransport transport(rank.bootstrap, ConnectMesh(rank.bootstrap, "lo", kLong), kShort);
    Bytes received(1000);
    try {
      transport.Exchange({.sequence = 5,
                          .sends = {},
                          .receives = {{.peer = 1, .data = received.data(), .bytes = 1000}}});
    } catch (const CommError& caught) {
      error = caught.what();
    }
    rank.bootstrap.Barrier();
  });
  return error;
}

Bytes Sent(const WireHeader& header, size_t bytes) {
  Bytes sent(sizeof(header) + bytes);
  std::memcpy(sent.data(), &header, sizeof(header));
  return sent;
}

TEST(Tcp, ARankThatEndsWithinAMessageIsNamed) {
  Bytes header = Sent({.sequence = 5, .bytes = 1000}, 0);
  header.pop_back();
  EXPECT_EQ(ErrorAfter(header, true), "the connection to rank 1 has ended");
  const Bytes half = Sent({.sequence = 5, .bytes = 1000}, 500);
  EXPECT_EQ(ErrorAfter(half, true), "the connection to rank 1 has ended");
}

TEST(Tcp, ARankThatFallsSilentWithinAMessageIsNamed) {
  const Bytes half = Sent({.sequence = 5, .bytes = 1000}, 500);
  EXPECT_EQ(ErrorAfter(half, false), "no answer from rank 1 for 700 ms");
}

TEST(Tcp, AMessageOfAnotherLengthIsRefused) {
  for (int64_t bytes : {int64_t{0}, int64_t{999}, int64_t{1} << 62, int64_t{-1}}) {
    EXPECT_EQ(ErrorAfter(Sent({.sequence = 5, .bytes = bytes}, 1000), false),
              "rank 1 sent " + std::to_string(bytes) + " bytes instead of 1000");
  }
}

}  // namespace
}  // namespace hearth::test
