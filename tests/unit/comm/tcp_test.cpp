// What only connections of our own have: how ranks find each other, and how connections end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
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

std::string ErrorOfMaking(Bootstrap& bootstrap, const std::string& interface) {
  try {
    const TcpTransport transport(bootstrap, interface, kLong);
  } catch (const CommError& error) {
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

// Calls the port of each rank the moment it is told, before the ranks do.
class NosyBootstrap final : public Bootstrap {
 public:
  explicit NosyBootstrap(Bootstrap& inner) : inner_(inner) {}
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
    if (mine.size() == sizeof(uint16_t)) {
      for (const Bytes& port : all) Call(port);
      inner_.Barrier();
    }
    return all;
  }
  const std::vector<Socket>& strangers() const { return strangers_; }

 private:
  void Call(const Bytes& bytes) {
    uint16_t port = 0;
    std::memcpy(&port, bytes.data(), sizeof(port));
    const Deadline deadline = Clock::now() + kLong;
    strangers_.push_back(Connect(0x7f000001, port, deadline));
    const std::array<std::byte, 20> guess{};
    SendAll(strangers_.back(), guess, deadline);
  }

  Bootstrap& inner_;
  std::vector<Socket> strangers_;
};

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

TEST(Tcp, WhoDoesNotKnowTheTokenIsTurnedAway) {
  RunInprocWorld({.ranks = 3}, [](InprocRank& rank) {
    NosyBootstrap nosy(rank.bootstrap);
    TcpTransport transport(nosy, "lo", kLong);
    EXPECT_EQ(transport.network(), "lo (127.0.0.1)");
    ASSERT_EQ(nosy.strangers().size(), 3u);
    for (const Socket& stranger : nosy.strangers()) {
      std::array<std::byte, 1> answer{};
      EXPECT_FALSE(ReceiveAll(stranger, answer, Clock::now() + kLong));
    }
    ExpectMessages(transport, 1, 1000);
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
    auto transport =
        std::make_unique<TcpTransport>(rank.bootstrap, "lo", std::chrono::milliseconds(700));
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
      EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(600));
      EXPECT_LT(Clock::now() - begin, std::chrono::seconds(30));
    }
    rank.bootstrap.Barrier();
  });
}

}  // namespace
}  // namespace hearth::test
