#include "runtime/state/lease.h"

#include <gtest/gtest.h>

#include <optional>
#include <type_traits>
#include <utility>

#include "kernels/core/error.h"

namespace hearth {
namespace {

static_assert(!std::is_copy_constructible_v<Lease> && !std::is_copy_assignable_v<Lease>);
static_assert(std::is_nothrow_move_constructible_v<Lease>);

TEST(LeaseTable, HoldsNothingBeforeItIsWritten) {
  LeaseTable table("weights", 2);
  EXPECT_EQ(table.version(0), kNothing);
  EXPECT_THROW(table.Read(0, 0), CheckError);
  { const Lease writer = table.Write(0, 0); }
  EXPECT_EQ(table.version(0), 0);
  EXPECT_NO_THROW(table.Read(0, 0));
  EXPECT_THROW(table.Read(1, 0), CheckError) << "entries are apart";
}

TEST(LeaseTable, AnotherVersionIsRefusedByName) {
  LeaseTable table("weights of unit", 8);
  { const Lease writer = table.Write(7, 41); }
  EXPECT_NO_THROW(table.Read(7, 41));
  for (int64_t version : {40, 42}) {
    try {
      table.Read(7, version);
      FAIL() << "version " << version;
    } catch (const CheckError& error) {
      EXPECT_NE(std::string(error.what()).find("weights of unit 7 holds version 41"),
                std::string::npos)
          << error.what();
    }
  }
  // A refused lease is no lease.
  EXPECT_NO_THROW(table.Write(7, 42));
}

TEST(LeaseTable, ManyReadersOrOneWriter) {
  LeaseTable table("slot", 1);
  { const Lease writer = table.Write(0, 1); }
  {
    const Lease first = table.Read(0, 1);
    {
      const Lease second = table.Read(0, 1);
      EXPECT_THROW(table.Write(0, 2), CheckError);
    }
    EXPECT_THROW(table.Write(0, 2), CheckError) << "one reader is left";
  }
  EXPECT_EQ(table.version(0), 1) << "a refused writer changes nothing";
  {
    const Lease writer = table.Write(0, 2);
    EXPECT_THROW(table.Read(0, 1), CheckError);
    EXPECT_THROW(table.Read(0, 2), CheckError) << "not before the writer is done";
    EXPECT_THROW(table.Write(0, 3), CheckError);
  }
  EXPECT_NO_THROW(table.Read(0, 2));
}

TEST(LeaseTable, AMovedLeaseIsGivenBackOnce) {
  LeaseTable table("slot", 2);
  { const Lease writer = table.Write(0, 1); }
  std::optional<Lease> outer;
  {
    Lease inner = table.Read(0, 1);
    outer.emplace(std::move(inner));
  }
  EXPECT_THROW(table.Write(0, 2), CheckError) << "the lease lives on where it was moved to";
  outer.reset();
  { const Lease writer = table.Write(0, 2); }
  // Had the moved-from lease been given back too, a reader would now hide another.
  const Lease reader = table.Read(0, 2);
  EXPECT_THROW(table.Write(0, 3), CheckError);
}

TEST(LeaseTable, AssigningGivesBackWhatWasHeld) {
  LeaseTable table("slot", 2);
  Lease lease = table.Write(0, 1);
  lease = table.Write(1, 5);
  EXPECT_NO_THROW(table.Read(0, 1));
  EXPECT_THROW(table.Read(1, 5), CheckError);
  Lease& same = lease;
  lease = std::move(same);
  EXPECT_THROW(table.Read(1, 5), CheckError) << "moving a lease to itself keeps it";
  lease = Lease();
  EXPECT_NO_THROW(table.Read(1, 5));
}

}  // namespace
}  // namespace hearth
