#include "runtime/report/series.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hearth {

namespace {

// Beyond this, sums and axes overflow; nothing that a run measures is near.
constexpr double kLargest = 1e100;

bool IsUsable(double value) { return std::abs(value) <= kLargest; }

SeriesBucket OneRecord(int64_t step, double value) {
  if (!IsUsable(value)) {
    return {.first_step = step, .last_step = step, .count = 0, .not_finite = 1};
  }
  return {.first_step = step,
          .last_step = step,
          .count = 1,
          .not_finite = 0,
          .min = value,
          .max = value,
          .sum = value};
}

void MergeInto(SeriesBucket* bucket, const SeriesBucket& later) {
  bucket->last_step = later.last_step;
  bucket->not_finite += later.not_finite;
  if (later.count == 0) return;
  bucket->min = bucket->count > 0 ? std::min(bucket->min, later.min) : later.min;
  bucket->max = bucket->count > 0 ? std::max(bucket->max, later.max) : later.max;
  bucket->sum += later.sum;
  bucket->count += later.count;
}

}  // namespace

void Series::Add(int64_t step, double value) {
  if (step < 0 || step < last_step_) {
    ++out_of_order_;
    return;
  }
  last_step_ = step;
  ends_not_finite_ = !IsUsable(value);
  const SeriesBucket record = OneRecord(step, value);
  if (ends_not_finite_) {
    ++not_finite_;
    if (!first_not_finite_step_) first_not_finite_step_ = step;
  } else {
    ++count_;
    last_ = value;
    if (!lowest_ || value < lowest_->min) lowest_ = record;
  }
  if (!buckets_.empty() &&
      buckets_.back().first_step / steps_per_bucket_ == step / steps_per_bucket_) {
    MergeInto(&buckets_.back(), record);
    return;
  }
  buckets_.push_back(record);
  if (std::ssize(buckets_) > most_buckets_) Coarsen(most_buckets_);
}

void Series::Coarsen(int64_t most_buckets) {
  most_buckets_ = std::max<int64_t>(1, most_buckets);
  // The width ends beyond any step of 64 bits, with one bucket left.
  while (std::ssize(buckets_) > most_buckets_ && steps_per_bucket_ < int64_t{1} << 62) {
    steps_per_bucket_ *= 2;
    std::vector<SeriesBucket> merged;
    for (const SeriesBucket& bucket : buckets_) {
      if (!merged.empty() &&
          merged.back().first_step / steps_per_bucket_ == bucket.first_step / steps_per_bucket_) {
        MergeInto(&merged.back(), bucket);
      } else {
        merged.push_back(bucket);
      }
    }
    buckets_ = std::move(merged);
  }
}

bool Series::IsExact() const {
  return std::all_of(buckets_.begin(), buckets_.end(), [](const SeriesBucket& bucket) {
    return bucket.count + bucket.not_finite == 1;
  });
}

bool Series::Varies() const { return Min() < Max(); }

double Series::Min() const {
  double least = 0;
  bool any = false;
  for (const SeriesBucket& bucket : buckets_) {
    if (bucket.count == 0) continue;
    least = any ? std::min(least, bucket.min) : bucket.min;
    any = true;
  }
  return least;
}

double Series::Max() const {
  double most = 0;
  bool any = false;
  for (const SeriesBucket& bucket : buckets_) {
    if (bucket.count == 0) continue;
    most = any ? std::max(most, bucket.max) : bucket.max;
    any = true;
  }
  return most;
}

std::optional<double> Series::Median() const {
  std::vector<std::pair<double, int64_t>> means;
  for (const SeriesBucket& bucket : buckets_) {
    if (bucket.count > 0) means.emplace_back(bucket.Mean(), bucket.count);
  }
  std::sort(means.begin(), means.end());
  int64_t below = 0;
  for (const auto& [mean, count] : means) {
    below += count;
    if (2 * below >= count_) return mean;
  }
  return std::nullopt;
}

}  // namespace hearth
