// The report: one HTML file that needs nothing else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/report/run_data.h"

namespace hearth {

// No report is larger, whatever the length and number of the runs.
inline constexpr int64_t kMostReportBytes = 2'000'000;
// Of a sweep's runs so many have curves, the best.
inline constexpr int64_t kMostReportCurves = 40;

// The page of a run, or of several, each in a colour and beside the others. The same data give the
// same bytes. `runs` not empty, at most kMostReportCurves.
std::string RunReport(const std::vector<RunData>& runs);
std::string SweepReport(const SweepData& sweep);

// The page's style sheet and program (page_style.cpp, page_script.cpp, page_script_charts.cpp).
std::string_view PageColors(bool is_dark);
std::string_view PageStyle();
std::string_view PageScript();
std::string_view PageChartScript();

}  // namespace hearth
