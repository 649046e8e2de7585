// The parts of the page besides its charts. Each returns HTML, "" where there is nothing to show.
#pragma once

#include <string>
#include <vector>

#include "runtime/report/run_data.h"

namespace hearth {

using RunList = std::vector<const RunData*>;

// "<section><h2>...": with an anchor of the title's letters; "" for an empty body.
std::string Section(std::string_view title, const std::string& body);

// Of one run: state, losses, speed, memory at a glance.
std::string SummaryTiles(const RunData& run);
// A line about one run: its machine, model, precision.
std::string DescribeRun(const RunData& run);
// The run's state as a coloured word.
std::string StateBadge(RunState state);

// One row a run, with its colour and switch. `keys` are columns too.
std::string RunsTable(const RunList& runs, const std::vector<std::string>& keys);
// As RunsTable, with the metric, sorted as the sweep is. At most `most_rows` runs.
std::string SweepTable(const SweepData& sweep, int64_t most_rows);

// The keys that differ, a column for each run.
std::string DifferencesTable(const RunList& runs, const std::vector<std::string>& keys);

// Planned and measured memory: bars and parts of one run, or a row for each of several.
std::string MemorySection(const RunList& runs);
// Every key with its value and origin, folded but for those that were set; the plan's decisions.
std::string ConfigurationSection(const RunList& runs, int64_t most_keys);
std::string EventsSection(const RunList& runs);
// What could not be read or shown.
std::string RemarksSection(const RunList& runs, const std::vector<std::string>& more);

// "learning_rate" of "optimizer.learning_rate"; the whole path where two of `keys` end alike.
std::string ShortKeyName(const std::vector<std::string>& keys, const std::string& key);

}  // namespace hearth
