// The timeline of a step: complete, in the order that the schedule asks for, and without a trace in
// the results.

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

struct Slice {
  double begin = 0;
  double end = 0;
  int thread = 0;
};

// By number of the task; what is no slice has to be a name.
std::map<int, Slice> ReadSlices(const std::filesystem::path& path, std::set<std::string>& kinds,
                                std::map<int, std::string>& threads) {
  std::ifstream file(path);
  const nlohmann::json trace = nlohmann::json::parse(file);
  std::map<int, Slice> slices;
  for (const auto& event : trace.at("traceEvents")) {
    const int thread = event.at("tid");
    if (event.at("ph") == "M") {
      if (event.at("name") == "thread_name") threads[thread] = event.at("args").at("name");
      continue;
    }
    EXPECT_EQ(event.at("ph"), "X");
    const double begin = event.at("ts"), duration = event.at("dur");
    EXPECT_FALSE(!(duration >= 0)) << event;
    EXPECT_TRUE(
        slices.emplace(event.at("args").at("task"), Slice{begin, begin + duration, thread}).second);
    kinds.insert(event.at("cat"));
  }
  return slices;
}

TEST(Trace, ShowsEveryTaskInItsOrderAndChangesNothing) {
  const int ranks = RanksUnderTest(2);
  const TrainingKeys keys = {{"precision", "compute_dtype: bf16"},
                             {"memory", "offload: {optimizer: host, gradients: none}"},
                             {"memory", "optimizer_device: cpu"}};
  const TrainingRunResult untraced = TrainInProcess({.ranks = ranks, .keys = keys});
  const TemporaryFolder folder;
  TrainingKeys traced = keys;
  traced.emplace_back("logging", "trace_steps: [2, 3, 99]");
  const TrainingRunResult result =
      TrainInProcess({.ranks = ranks, .keys = traced, .folder = folder.path()});
  EXPECT_EQ(result.losses, untraced.losses);
  EXPECT_EQ(result.weights, untraced.weights);
  for (const char* step : {"2", "3"}) {
    for (int rank = 0; rank < ranks; ++rank) {
      const std::filesystem::path path =
          folder.path() / "out" / "trace" /
          ("step-" + std::string(step) + "-rank-" + std::to_string(rank) + ".json");
      std::set<std::string> kinds;
      std::map<int, std::string> threads;
      const std::map<int, Slice> slices = ReadSlices(path, kinds, threads);
      ASSERT_GT(slices.size(), 20u);
      EXPECT_EQ(slices.rbegin()->first, static_cast<int>(slices.size()) - 1);
      EXPECT_EQ(threads.size(), 7u);
      for (const char* kind : {"begin_step", "forward", "head", "backward", "clip", "update",
                               "gradients_to_host", "weights_to_device", "end_step"}) {
        EXPECT_TRUE(kinds.contains(kind)) << kind;
      }
      // Streams are queues, and nothing outlasts the end of the step.
      std::map<int, double> last;
      for (const auto& [task, slice] : slices) {
        EXPECT_FALSE(!(slice.begin >= last[slice.thread])) << "task " << task;
        last[slice.thread] = slice.end - 0.002;  // rounded to nanoseconds, three times
        if (threads[slice.thread] == "host_optimizer") continue;  // another clock
        EXPECT_FALSE(!(slice.begin <= slices.rbegin()->second.end)) << "task " << task;
      }
    }
  }
  const auto files = std::filesystem::directory_iterator(folder.path() / "out" / "trace");
  EXPECT_EQ(std::distance(begin(files), end(files)), 2 * ranks);
}

}  // namespace
}  // namespace hearth::test
