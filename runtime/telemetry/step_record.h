// What one step, or one evaluation, has to say: a step number and named values. Names are those of
// the log ("train/loss", "eval/loss", "mem/device", ...). "train/sol" and "train/mfu" are fractions
// of one; "gpu/..." is rank 0's device while the step ran; "fp8/repairs" counts the tensors of all
// ranks whose verified scale did not hold; "fp8/amax/TENSOR/LAYER" is the largest magnitude that
// was quantised, of all ranks and micro-batches. "plan/..." of a run's last step: what its plan
// predicted, and what rank 0 measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace hearth {

// float and double are told apart because each is printed in its own shortest form.
using StepValue = std::variant<int64_t, float, double, std::string>;

struct StepRecord {
  int64_t step = 0;
  std::vector<std::pair<std::string, StepValue>> values;  // in the order they are written

  // Adds a value, or replaces the one of that name.
  void Set(std::string_view name, StepValue value);

  // The number under that name; nullopt when there is none or it is text.
  std::optional<double> Number(std::string_view name) const;
};

// The record as one line of JSON without the line's end: {"step":7,"train/loss":2.5}. Numbers are
// in the shortest form that reads back to the same bits; those that JSON cannot express are the
// strings "NaN", "Infinity" and "-Infinity".
std::string ToJson(const StepRecord& record);
// One of its values.
std::string ToJson(const StepValue& value);

}  // namespace hearth
