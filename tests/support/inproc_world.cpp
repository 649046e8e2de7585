#include "tests/support/inproc_world.h"

#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/inproc/inproc_bootstrap.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/split_memory_backend.h"

namespace hearth::test {

namespace {

std::unique_ptr<KernelBackend> MakeRankBackend(const InprocWorldOptions& options) {
  if (options.backend.empty()) return MakeBackendUnderTest(options.threads);
  if (options.backend == "split") return std::make_unique<SplitMemoryBackend>(options.threads);
  return MakeBackend(options.backend, {.threads = options.threads});
}

void RunRank(const InprocWorldOptions& options, Bootstrap& bootstrap,
             const std::function<void(InprocRank&)>& body) {
  const auto backend = MakeRankBackend(options);
  const auto stream = backend->device().CreateStream("compute");
  const auto communicator = MakeCommunicator("inproc", bootstrap, *backend, options.communicator);
  InprocRank rank{bootstrap, *backend, *stream, *communicator};
  body(rank);
}

}  // namespace

void RunInprocWorld(const InprocWorldOptions& options,
                    const std::function<void(InprocRank& rank)>& body) {
  const auto bootstraps = MakeInprocBootstraps(options.ranks, options.bootstrap);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (const auto& bootstrap : bootstraps) {
    threads.emplace_back([&, rank = bootstrap.get()] {
      try {
        RunRank(options, *rank, body);
      } catch (const std::exception& error) {
        {
          std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        try {
          rank->Abort(1, error.what());
        } catch (const CommError&) {
          // How Abort of a thread returns.
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace hearth::test
