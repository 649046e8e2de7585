// The tables of a sweep: results.jsonl, results.csv and results.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/sweep_outcome.h"
#include "runtime/config/sweep_config.h"

namespace hearth {

// A run that has ended.
struct ResultRow {
  std::string id;
  std::vector<std::string> values;  // of ResultTable::keys
  RunOutcome outcome;
};

struct ResultTable {
  std::string title;  // the sweep's file
  std::string metric;
  MetricGoal goal = MetricGoal::kMinimize;
  std::vector<std::string> keys;
  std::vector<ResultRow> rows;
  int64_t runs = 0;                  // of the sweep, ended or not
  std::vector<std::string> removed;  // ids of runs in the folder that the file no longer has
};

// Best first; those without a finite value behind, in the order they have.
void SortRows(ResultTable* table);

// One JSON object a line, with run, state, step, the metric and each key by its path.
std::string ToJsonLines(const ResultTable& table);
// With a heading; fields quoted where they need it.
std::string ToCsv(const ResultTable& table);
// With a second table over the seeds where `seed` varies with other keys.
std::string ToMarkdown(const ResultTable& table);

// "6 finished, 1 stopped early, 1 failed"; "" for none.
std::string CountStates(const std::vector<ResultRow>& rows);

// The best runs, for a terminal.
std::string FormatForTerminal(ResultTable table);

// Columns of text of equal width, for terminals: the first row is the heading.
std::string FormatColumns(const std::vector<std::vector<std::string>>& rows);

// Sorts the table and replaces the three files, each in one step. IoError.
void WriteResults(const std::filesystem::path& folder, ResultTable table);

}  // namespace hearth
