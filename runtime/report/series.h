// A metric over the steps of a run of any length, in a bounded number of buckets.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace hearth {

// The records of neighbouring steps.
struct SeriesBucket {
  int64_t first_step = 0;
  int64_t last_step = 0;
  int64_t count = 0;       // finite values
  int64_t not_finite = 0;  // others, among them any beyond 1e100
  double min = 0;          // of the finite values; 0 where there are none
  double max = 0;
  double sum = 0;

  double Mean() const { return sum / static_cast<double>(count); }
};

// Takes values in rising order of steps and keeps their means and extremes, never a sample of them.
class Series {
 public:
  explicit Series(int64_t most_buckets) : most_buckets_(most_buckets) {}

  // A step before the last one is counted and otherwise ignored, as is a negative one.
  void Add(int64_t step, double value);

  // Merges neighbours until there are at most so many buckets.
  void Coarsen(int64_t most_buckets);

  const std::vector<SeriesBucket>& buckets() const { return buckets_; }
  // Whether each bucket is a single record.
  bool IsExact() const;
  // Whether two finite values differ.
  bool Varies() const;

  // Of all finite values; 0 where there are none.
  double Min() const;
  double Max() const;
  // Half of the records lie below; of the buckets' means where records were merged.
  std::optional<double> Median() const;

  int64_t count() const { return count_; }  // finite values
  int64_t not_finite() const { return not_finite_; }
  std::optional<int64_t> first_not_finite_step() const { return first_not_finite_step_; }
  int64_t out_of_order() const { return out_of_order_; }
  std::optional<double> last() const { return last_; }  // the last finite value
  int64_t last_step() const { return last_step_; }      // -1 before the first
  bool ends_not_finite() const { return ends_not_finite_; }
  // The lowest value and where it first was.
  std::optional<SeriesBucket> Lowest() const { return lowest_; }

 private:
  int64_t most_buckets_;
  int64_t steps_per_bucket_ = 1;  // a power of two; buckets begin at its multiples
  std::vector<SeriesBucket> buckets_;
  int64_t count_ = 0;
  int64_t not_finite_ = 0;
  std::optional<int64_t> first_not_finite_step_;
  int64_t out_of_order_ = 0;
  std::optional<double> last_;
  int64_t last_step_ = -1;
  bool ends_not_finite_ = false;
  std::optional<SeriesBucket> lowest_;
};

}  // namespace hearth
