#include "runtime/data/data_loader.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

DataLoader::Builder TrainingBuilder(std::shared_ptr<const TokenDataset> data,
                                    const BatchPartition& partition) {
  partition.Validate(data->sequence_len());
  return [data = std::move(data), partition](int64_t step) {
    return BuildTrainingBatch(*data, partition, step);
  };
}

}  // namespace

DataLoader::DataLoader(std::shared_ptr<const TokenDataset> data, const DataLoaderOptions& options)
    : DataLoader(TrainingBuilder(std::move(data), options.partition), options) {}

DataLoader::DataLoader(Builder builder, const DataLoaderOptions& options)
    : builder_(std::move(builder)), options_(options), next_step_(options.first_step) {
  CHECK(next_step_ >= 0, "step {}", next_step_);
  thread_ = std::thread([this] { Run(); });
}

DataLoader::~DataLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool DataLoader::HasWork() const {
  const bool past_end = options_.last_step >= 0 && next_step_ > options_.last_step;
  return !ready_ && !error_ && !past_end;
}

void DataLoader::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    // Idle between batches for as long as a step lasts; the destructor ends it.
    changed_.wait(lock, [this] { return stopping_ || HasWork(); });
    if (stopping_) return;
    const int64_t step = next_step_;
    const int64_t request = request_;
    lock.unlock();
    std::optional<StepBatch> batch;
    std::exception_ptr error;
    try {
      batch = builder_(step);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (request != request_) continue;  // a seek came in between
    ready_ = std::move(batch);
    error_ = error;
    changed_.notify_all();
  }
}

void DataLoader::WaitReady(std::unique_lock<std::mutex>& lock) {
  CHECK(options_.last_step < 0 || next_step_ <= options_.last_step, "step {} after the last, {}",
        next_step_, options_.last_step);
  const auto timeout = std::chrono::duration<double>(options_.timeout_s);
  if (!changed_.wait_for(lock, timeout, [this] { return ready_ || error_; })) {
    throw IoError(fmt::format(
        "waited {} s for the training data of step {}; the disk or network it is read from does "
        "not answer",
        options_.timeout_s, next_step_));
  }
  if (error_) std::rethrow_exception(error_);
}

StepBatch DataLoader::Next() {
  std::unique_lock lock(mutex_);
  WaitReady(lock);
  StepBatch batch = std::move(*ready_);
  ready_.reset();
  ++next_step_;
  ++request_;
  changed_.notify_all();
  return batch;
}

int64_t DataLoader::WaitNextTargetCount() {
  std::unique_lock lock(mutex_);
  WaitReady(lock);
  return ready_->target_count;
}

void DataLoader::Seek(int64_t step) {
  CHECK(step >= 0, "step {}", step);
  const std::lock_guard lock(mutex_);
  next_step_ = step;
  ++request_;
  ready_.reset();
  error_ = nullptr;
  changed_.notify_all();
}

}  // namespace hearth
