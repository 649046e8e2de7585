#include "runtime/data/sample_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/permutation.h"

namespace hearth {

namespace {

constexpr double kMaxSamplesPerEpoch = 4503599627370496.0;  // 2^52: exact in a double

int64_t SamplesPerEpoch(const DatasetSize& dataset, size_t index) {
  if (!(dataset.weight > 0.0) || !std::isfinite(dataset.weight)) {
    throw ConfigError(fmt::format("the weight {} of dataset {} must be a positive number",
                                  dataset.weight, index));
  }
  const double share = std::round(dataset.weight * static_cast<double>(dataset.samples));
  if (!(share >= 1.0)) {
    throw ConfigError(fmt::format(
        "dataset {} has {} samples and weight {}: it would contribute none; give it more data, a "
        "shorter sequence_len or a larger weight",
        index, dataset.samples, dataset.weight));
  }
  if (!(share <= kMaxSamplesPerEpoch)) {
    throw ConfigError(fmt::format("dataset {} has {} samples and weight {}: too many", index,
                                  dataset.samples, dataset.weight));
  }
  return static_cast<int64_t>(share);
}

}  // namespace

SampleOrder::SampleOrder(std::vector<DatasetSize> datasets, uint64_t seed)
    : datasets_(std::move(datasets)), seed_(seed) {
  CHECK(!datasets_.empty() && datasets_.size() < 1024, "{} datasets", datasets_.size());
  int64_t end = 0;
  for (size_t i = 0; i < datasets_.size(); ++i) {
    end += SamplesPerEpoch(datasets_[i], i);
    ends_.push_back(end);
  }
}

DatasetSample SampleOrder::Locate(int64_t global_index) const {
  CHECK(global_index >= 0, "sample {}", global_index);
  const int64_t epoch = global_index / samples_per_epoch();
  const Permutation mix({.seed = seed_, .use = PermutationUse::kEpoch, .stream = 0, .pass = epoch},
                        samples_per_epoch());
  const int64_t slot = mix(global_index % samples_per_epoch());
  const int64_t dataset = std::upper_bound(ends_.begin(), ends_.end(), slot) - ends_.begin();
  const size_t d = static_cast<size_t>(dataset);
  const int64_t begin = dataset == 0 ? 0 : ends_[d - 1];
  const int64_t dealt = epoch * (ends_[d] - begin) + (slot - begin);
  const int64_t samples = datasets_[d].samples;
  const Permutation shuffle({.seed = seed_,
                             .use = PermutationUse::kDataset,
                             .stream = static_cast<uint32_t>(dataset),
                             .pass = dealt / samples},
                            samples);
  return {.epoch = epoch,
          .dataset = dataset,
          .pass = dealt / samples,
          .sample = shuffle(dealt % samples)};
}

}  // namespace hearth
