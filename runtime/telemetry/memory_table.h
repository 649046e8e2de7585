// Memory per tier: what the plan predicts, what was measured, what there is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hearth {

struct MemoryRow {
  std::string tier;  // "device", "host", "ssd"
  std::string item;  // "weights", "optimizer state", ...; "" for the tier's sum
  std::optional<int64_t> predicted_bytes;  // peak; nullopt: not predicted
  std::optional<int64_t> measured_bytes;   // peak; nullopt: not measured (yet)
  std::optional<int64_t> budget_bytes;     // of the tier
};

// A table with a line for each row, in order, and a heading. Columns without any value are left
// out; where both are known, a last column says by how much the measurement is off. Empty for no
// rows.
std::string FormatMemoryTable(const std::vector<MemoryRow>& rows);

}  // namespace hearth
