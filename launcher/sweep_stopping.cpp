#include "launcher/sweep_stopping.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hearth {

namespace {

// The middle of the values, or the mean of the two in the middle. A loss of NaN counts as the
// worst.
double Median(std::vector<double> values, MetricGoal goal) {
  const double worst = goal == MetricGoal::kMinimize ? std::numeric_limits<double>::infinity()
                                                     : -std::numeric_limits<double>::infinity();
  for (double& value : values) value = std::isnan(value) ? worst : value;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1 || values[middle - 1] == values[middle]) return values[middle];
  return values[middle - 1] / 2 + values[middle] / 2;
}

}  // namespace

bool IsWorse(double a, double b, MetricGoal goal) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return goal == MetricGoal::kMinimize ? a > b : a < b;
}

std::string ReasonToStop(const StoppingQuestion& question) {
  const std::optional<double> own = ValueAt(question.curve, question.step);
  if (!own || question.rule.type == StoppingRule::kNone) return "";
  if (question.rule.type == StoppingRule::kThreshold) {
    if (!IsWorse(*own, question.rule.threshold, question.goal)) return "";
    return fmt::format("{:.6g} at step {} is worse than the threshold {}", *own, question.step,
                       question.rule.threshold);
  }
  std::vector<double> others;
  for (const Rival& rival : question.rivals) {
    const std::optional<double> theirs = ValueAt(*rival.curve, question.step);
    if (theirs && HasPassed(*rival.curve, rival.last_step, question.step))
      others.push_back(*theirs);
  }
  if (std::ssize(others) < kLeastOtherRuns) return "";
  const double median = Median(others, question.goal);
  if (!IsWorse(*own, median, question.goal)) return "";
  return fmt::format("{:.6g} at step {} is worse than {:.6g}, the median of {} other runs", *own,
                     question.step, median, others.size());
}

std::vector<int64_t> DecisionSteps(const SweepEarlyTerminate& rule, int64_t after, int64_t until) {
  std::vector<int64_t> steps;
  if (rule.type == StoppingRule::kNone) return steps;
  const int64_t first = std::max(after + 1, rule.min_steps);
  for (int64_t step = (first + rule.every - 1) / rule.every * rule.every; step <= until;
       step += rule.every) {
    steps.push_back(step);
  }
  return steps;
}

}  // namespace hearth
