#include "launcher/rank_report.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <vector>

namespace hearth {

namespace {

constexpr size_t kMaxEscaped = 3500;
constexpr int64_t kLastState = static_cast<int64_t>(RankState::kFailed);
constexpr int64_t kLastPhase = static_cast<int64_t>(RunPhase::kExporting);

std::string Mark(const std::string& token) { return fmt::format("<{}|", token); }

bool IsPlain(char c) { return c > ' ' && c < 0x7f && c != '%' && c != '|'; }

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (escaped.size() > kMaxEscaped) break;
    if (IsPlain(c)) {
      escaped += c;
    } else {
      escaped += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

std::optional<std::string> Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    unsigned value = 0;
    const char* begin = text.data() + i + 1;
    if (i + 2 >= text.size() || std::from_chars(begin, begin + 2, value, 16).ptr != begin + 2) {
      return std::nullopt;
    }
    plain += static_cast<char>(value);
    i += 2;
  }
  return plain;
}

std::vector<std::string_view> Split(std::string_view text) {
  std::vector<std::string_view> fields;
  while (true) {
    const size_t end = text.find('|');
    fields.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return fields;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string FormatRankReport(const std::string& token, const RankReport& report) {
  const HeartbeatReading& reading = report.reading;
  return fmt::format("{}{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|>\n", Mark(token), report.rank,
                     static_cast<int64_t>(reading.state), reading.pid, reading.beats,
                     reading.progress, reading.step, static_cast<int64_t>(reading.phase),
                     reading.collectives, reading.exit_code, Escape(reading.host),
                     Escape(reading.message));
}

bool IsRankReport(const std::string& token, std::string_view line) {
  return line.find(Mark(token)) != std::string_view::npos;
}

std::optional<RankReport> ParseRankReport(const std::string& token, std::string_view line) {
  const std::string mark = Mark(token);
  if (line.substr(0, mark.size()) != mark) return std::nullopt;
  const std::vector<std::string_view> fields = Split(line.substr(mark.size()));
  constexpr size_t kNumbers = 9;
  if (fields.size() != kNumbers + 3 || fields.back() != ">") return std::nullopt;
  std::array<int64_t, kNumbers> numbers{};
  for (size_t i = 0; i < kNumbers; ++i) {
    const char* end = fields[i].data() + fields[i].size();
    const auto parsed = std::from_chars(fields[i].data(), end, numbers[i]);
    if (parsed.ec != std::errc() || parsed.ptr != end || numbers[i] < 0) return std::nullopt;
  }
  const auto host = Unescape(fields[kNumbers]);
  const auto message = Unescape(fields[kNumbers + 1]);
  if (!host || !message || numbers[0] > INT32_MAX) return std::nullopt;
  if (numbers[1] > kLastState || numbers[6] > kLastPhase) return std::nullopt;
  RankReport report;
  report.rank = static_cast<int>(numbers[0]);
  report.reading = {.state = static_cast<RankState>(numbers[1]),
                    .pid = numbers[2],
                    .beats = numbers[3],
                    .progress = numbers[4],
                    .step = numbers[5],
                    .phase = static_cast<RunPhase>(numbers[6]),
                    .collectives = numbers[7],
                    .exit_code = numbers[8],
                    .ended_ns = 0,
                    .message = *message,
                    .host = *host};
  return report;
}

}  // namespace hearth
