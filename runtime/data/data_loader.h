// Training batches in order, each prepared while the one before it is used.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
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

// One consumer thread. A failure while preparing is thrown by the call that would have returned the
// batch.
class DataLoader {
 public:
  DataLoader(std::shared_ptr<const TokenDataset> data, const DataLoaderOptions& options);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The batch of the next step; preparation of the one after it begins. Throws IoError after
  // timeout_s.
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

  const std::shared_ptr<const TokenDataset> data_;  // shared with the evaluator and the checkpoint
  const DataLoaderOptions options_;
  int64_t next_step_ = 0;  // consumer only

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;           // the rest is guarded by mutex_
  int64_t wanted_step_ = 0;         // what the thread shall prepare next
  std::optional<StepBatch> ready_;  // the batch of wanted_step_
  std::exception_ptr error_;        // why it could not be prepared
  std::thread thread_;              // last: starts when all else is set
};

}  // namespace hearth
