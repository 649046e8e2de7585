// The order in which samples are visited: a pure function of the seed, the datasets' sizes and
// weights, and the global sample index. It knows no rank, step or file.
#pragma once

#include <cstdint>
#include <vector>

namespace hearth {

struct DatasetSize {
  int64_t samples = 0;
  double weight = 1.0;  // finite, > 0
};

// Which sample of which dataset.
struct DatasetSample {
  int64_t epoch = 0;
  int64_t dataset = 0;
  int64_t pass = 0;    // how often the dataset had been used up before
  int64_t sample = 0;  // within the dataset
};

// An epoch takes round(weight * samples) samples from each dataset, mixed by one permutation of the
// epoch. A dataset deals its samples in passes: each pass is a fresh permutation and gives every
// sample once, so weight 1 means each sample once an epoch, 0.5 each in every second epoch, and 2
// each twice.
class SampleOrder {
 public:
  // Throws ConfigError for a bad weight or a dataset that would contribute nothing.
  SampleOrder(std::vector<DatasetSize> datasets, uint64_t seed);

  int64_t samples_per_epoch() const { return ends_.back(); }
  // Constant time in the number of samples; global_index >= 0.
  DatasetSample Locate(int64_t global_index) const;

 private:
  std::vector<DatasetSize> datasets_;
  std::vector<int64_t> ends_;  // prefix sums of the datasets' samples per epoch
  uint64_t seed_ = 0;
};

}  // namespace hearth
