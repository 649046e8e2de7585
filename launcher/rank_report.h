// How a rank on another host shows its launcher what ranks beside it show on the heartbeat page:
// lines on its standard error, which mpirun brings home. No port is opened for it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

struct RankReport {
  int rank = 0;
  HeartbeatReading reading;  // with `host`
};

// One line with its end, below 4096 bytes so that a pipe takes it whole. `token`: the job's, of
// letters, digits and '-', by which the launcher knows the lines that are for it.
std::string FormatRankReport(const std::string& token, const RankReport& report);

// Whether the line, without its end, is one of that job, even a damaged one.
bool IsRankReport(const std::string& token, std::string_view line);

// nullopt when it is damaged.
std::optional<RankReport> ParseRankReport(const std::string& token, std::string_view line);

}  // namespace hearth
