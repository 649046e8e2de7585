// Training batches in order, each prepared while the one before it is used.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "runtime/data/batch.h"

namespace hearth {

struct DataLoaderOptions {
  BatchPartition partition;
  int64_t first_step = 0;  // resume: the number of steps done; nothing else is remembered
  int64_t last_step = -1;  // the last step that will be asked for; -1: no end
  double timeout_s = 300;  // longest wait for one batch
};

// Used by one thread. A failure while preparing is thrown by the call that would have returned the
// batch, and again until Seek.
class DataLoader {
 public:
  // Builds the batch of a step; called on the loader's own thread, one call at a time.
  using Builder = std::function<StepBatch(int64_t step)>;

  // BuildTrainingBatch on `data`. Preparation of first_step begins at once.
  DataLoader(std::shared_ptr<const TokenDataset> data, const DataLoaderOptions& options);
  DataLoader(Builder builder, const DataLoaderOptions& options);
  // Waits for the batch being built.
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The batch of the next step; preparation of the one after it begins. Throws IoError when it is
  // not ready after timeout_s.
  StepBatch Next();
  // This rank's target count of the step that Next() will return: what the ranks exchange for step
  // s+1 while step s runs.
  int64_t WaitNextTargetCount();
  // The step that Next() will return.
  int64_t next_step() const { return next_step_; }
  // Next() continues at `step`. Constant time.
  void Seek(int64_t step);

 private:
  void Run();
  void WaitReady(std::unique_lock<std::mutex>& lock);
  bool HasWork() const;  // with mutex_ held

  const Builder builder_;
  const DataLoaderOptions options_;
  int64_t next_step_ = 0;  // written by the consumer only, with mutex_ held

  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  bool stopping_ = false;
  int64_t request_ = 0;             // rises whenever another batch is wanted
  std::optional<StepBatch> ready_;  // the batch of next_step_
  std::exception_ptr error_;        // why there is none
  std::thread thread_;              // last: starts when all else is set
};

}  // namespace hearth
