#include "tests/support/multirank_run.h"

#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace hearth::test {

namespace {

// Prints what failed on a rank other than 0.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_,
                 result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                 result.message());
  }

 private:
  int rank_;
};

// Makes a case fail on rank 0 that failed elsewhere. Comes after the printers in the list, so that
// it is called before them when a case ends and may still add a failure.
class FailureSharer : public ::testing::EmptyTestEventListener {
 public:
  explicit FailureSharer(int rank) : rank_(rank) {}

  void OnTestEnd(const ::testing::TestInfo& info) override {
    const int failed_here = info.result()->Failed() ? 1 : 0;
    int failed_ranks = 0;
    MPI_Allreduce(&failed_here, &failed_ranks, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank_ == 0 && failed_ranks > failed_here) {
      ADD_FAILURE() << failed_ranks - failed_here << " other rank(s) failed";
    }
  }

 private:
  int rank_;
};

}  // namespace

int RunAsRank(int argc, char** argv) {
  int thread_level = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &thread_level);
  if (thread_level != MPI_THREAD_MULTIPLE) {
    std::fprintf(stderr, "MPI gives no MPI_THREAD_MULTIPLE\n");
    return EXIT_FAILURE;
  }
  ::testing::InitGoogleTest(&argc, argv);

  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(std::make_unique<FailurePrinter>(rank).release());
  }
  listeners.Append(std::make_unique<FailureSharer>(rank).release());

  const int result = RUN_ALL_TESTS();
  MPI_Finalize();
  return rank == 0 ? result : EXIT_SUCCESS;  // rank 0 knows of every failure
}

}  // namespace hearth::test
