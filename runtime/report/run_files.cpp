#include "runtime/report/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/config/yaml_document.h"
#include "runtime/telemetry/json_lines_log.h"

namespace hearth {

namespace {

constexpr size_t kMostLeaves = 1000;  // beyond any configuration of ours
constexpr size_t kMostPools = 200;
constexpr std::string_view kOriginMark = "  # ";

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// A YAML value in one line: lists in brackets, maps in braces.
std::string FlowText(const YamlNode& node) {
  if (node.IsScalar()) return node.text;
  if (node.IsNull()) return "null";
  std::vector<std::string> parts;
  for (const YamlNode& item : node.items) parts.push_back(FlowText(item));
  for (const YamlEntry& entry : node.entries) {
    parts.push_back(fmt::format("{}: {}", entry.key, FlowText(entry.value)));
  }
  const std::string joined = fmt::format("{}", fmt::join(parts, ", "));
  return node.IsMap() ? joined : fmt::format("[{}]", joined);
}

void ReadPools(const YamlNode& list, std::vector<PlannedPool>* pools) {
  for (const YamlNode& item : list.items) {
    const YamlNode* tier = item.Find("tier");
    const YamlNode* pool = item.Find("pool");
    const YamlNode* bytes = item.Find("bytes");
    if (tier == nullptr || pool == nullptr || bytes == nullptr) continue;
    const Parsed<int64_t> size = ReadInteger(*bytes, {.min = 0});
    if (!size.value || pools->size() >= kMostPools) continue;
    pools->push_back({.tier = tier->text, .name = pool->text, .bytes = *size.value});
  }
}

// Field of a protocol buffer message: a number, or bytes.
struct ProtoField {
  uint64_t number = 0;
  uint64_t value = 0;  // of a varint or fixed64
};

bool TakeVarint(std::string_view* data, uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !data->empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(data->front());
    data->remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[i - 1]);
  }
  return value;
}

bool TakeField(std::string_view* data, ProtoField* field) {
  uint64_t tag = 0;
  if (!TakeVarint(data, &tag)) return false;
  *field = {.number = tag >> 3, .value = 0};
  uint64_t size = 0;
  switch (tag & 7) {
    case 0:
      return TakeVarint(data, &field->value);
    case 1:
      size = 8;
      break;
    case 2:
      if (!TakeVarint(data, &size)) return false;
      break;
    case 5:
      size = 4;
      break;
    default:
      return false;
  }
  if (data->size() < size) return false;
  if (size <= 8) field->value = LittleEndian(data->substr(0, size));
  data->remove_prefix(size);
  return true;
}

// The next record of a TFRecord file; its checksums are not looked at.
std::optional<std::string_view> TakeRecord(std::string_view* file) {
  constexpr uint64_t kHead = 12;  // length and its checksum
  constexpr uint64_t kTail = 4;
  if (file->size() < kHead) return std::nullopt;
  const uint64_t size = LittleEndian(file->substr(0, 8));
  if (size > file->size() || file->size() - size < kHead + kTail) return std::nullopt;
  const std::string_view record = file->substr(kHead, size);
  file->remove_prefix(kHead + size + kTail);
  return record;
}

// Field numbers of event.proto, and the smallest time that is one: a file may hold anything.
enum EventField : uint64_t { kWallTime = 1, kStep = 2, kSessionLog = 7 };
constexpr double kMostSeconds = 1e11;

std::optional<LogStart> ReadStart(std::string_view file) {
  LogStart start;
  for (int record_index = 0; record_index < 2; ++record_index) {
    std::optional<std::string_view> record = TakeRecord(&file);
    if (!record) break;
    ProtoField field;
    int64_t step = 0;
    bool is_restart = false;
    while (TakeField(&*record, &field)) {
      if (field.number == kWallTime && record_index == 0) {
        start.wall_time_s = std::bit_cast<double>(field.value);
      }
      if (field.number == kStep) step = static_cast<int64_t>(field.value);
      if (field.number == kSessionLog) is_restart = true;
    }
    if (is_restart && step >= 0) start.first_step = step;
  }
  if (!(start.wall_time_s > 0 && start.wall_time_s < kMostSeconds)) return std::nullopt;
  return start;
}

class FilesOnDisk : public ReportFiles {
 public:
  bool Exists(const std::filesystem::path& path) const override {
    std::error_code error;
    return std::filesystem::exists(path, error);
  }

  std::optional<std::string> ReadHead(const std::filesystem::path& file,
                                      int64_t most_bytes) const override {
    return Read(file, 0, most_bytes);
  }

  std::optional<std::string> ReadTail(const std::filesystem::path& file,
                                      int64_t most_bytes) const override {
    std::error_code error;
    const auto size = static_cast<int64_t>(std::filesystem::file_size(file, error));
    if (error) return std::nullopt;
    return Read(file, std::max<int64_t>(0, size - most_bytes), most_bytes);
  }

  void ReadPieces(const std::filesystem::path& file,
                  const std::function<void(std::string_view)>& use) const override {
    hearth::ReadPieces(file, 0, use);
  }

  std::vector<std::string> NamesIn(const std::filesystem::path& folder,
                                   std::string_view prefix) const override {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      std::string name = entry->path().filename().string();
      if (name.starts_with(prefix)) names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  static std::optional<std::string> Read(const std::filesystem::path& file, int64_t offset,
                                         int64_t most_bytes) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) return std::nullopt;
    std::ifstream in(file, std::ios::binary);
    if (!in) return std::nullopt;
    in.seekg(offset);
    std::string text;
    std::array<char, 1 << 13> block;
    while (std::ssize(text) < most_bytes &&
           (in.read(block.data(), block.size()), in.gcount() > 0)) {
      text.append(block.data(), static_cast<size_t>(in.gcount()));
    }
    if (std::ssize(text) > most_bytes) text.resize(static_cast<size_t>(most_bytes));
    return text;
  }
};

}  // namespace

const ReportFiles& DiskFiles() {
  static const FilesOnDisk disk;
  return disk;
}

ResolvedText ReadResolvedText(const std::string& text) {
  ResolvedText resolved;
  std::vector<std::string_view> sections;  // that the line is in
  bool is_first = true;
  for (const std::string_view line : Lines(text)) {
    const size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const std::string_view content = line.substr(indent);
    if (content.starts_with("# ")) {
      // "# 2 x NVIDIA H200, 139.8 GiB", "# 2 ranks on 1 x NVIDIA H200, 139.8 GiB"
      const bool is_machine = is_first && content.find(" x ") != std::string_view::npos;
      if (is_machine) resolved.machine = content.substr(2);
      is_first = false;
      continue;
    }
    is_first = false;
    const size_t colon = content.find(':');
    if (content.empty() || colon == std::string_view::npos || indent / 2 > sections.size())
      continue;
    sections.resize(indent / 2);
    const std::string_view key = content.substr(0, colon);
    std::string_view value = content.substr(colon + 1);
    if (value.empty()) {
      sections.push_back(key);
      continue;
    }
    value.remove_prefix(value.starts_with(' ') ? 1 : 0);
    const size_t mark = value.rfind(kOriginMark);
    ConfigLeaf leaf;
    for (const std::string_view section : sections) leaf.path += fmt::format("{}.", section);
    leaf.path += key;
    leaf.value = value.substr(0, mark);
    if (mark != std::string_view::npos) leaf.origin = value.substr(mark + kOriginMark.size());
    if (resolved.leaves.size() < kMostLeaves) resolved.leaves.push_back(std::move(leaf));
  }
  return resolved;
}

PlanText ReadPlanText(const std::string& text) {
  PlanText plan;
  try {
    const YamlDocument document = YamlDocument::Parse(text, "plan.yaml");
    plan.is_plan = document.root().IsMap();
    for (const YamlEntry& entry : document.root().entries) {
      if (entry.key == "memory") {
        ReadPools(entry.value, &plan.pools);
        continue;
      }
      const std::string value = FlowText(entry.value);
      const bool is_table = value.find('\n') != std::string::npos;
      if (is_table || entry.key == "plan_version") continue;
      if (plan.facts.size() < kMostLeaves) plan.facts.push_back({entry.key, value, ""});
    }
  } catch (const ConfigError&) {
    plan.is_plan = false;
  }
  return plan;
}

std::vector<LogStart> ReadLogStarts(const ReportFiles& files,
                                    const std::filesystem::path& run_folder) {
  constexpr int64_t kFirstRecords = 512;  // bytes
  std::vector<LogStart> starts;
  const std::filesystem::path folder = run_folder / "tb";
  for (const std::string& name : files.NamesIn(folder, "events.out.tfevents.")) {
    const std::optional<std::string> head = files.ReadHead(folder / name, kFirstRecords);
    if (!head) continue;
    if (const auto start = ReadStart(*head)) starts.push_back(*start);
  }
  return starts;
}

std::string FormatUtc(double wall_time_s) {
  using std::chrono::floor;
  const std::chrono::sys_seconds time{std::chrono::seconds(static_cast<int64_t>(wall_time_s))};
  const auto midnight = floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(midnight);
  const std::chrono::hh_mm_ss clock(time - midnight);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::vector<int64_t> SavedSteps(const ReportFiles& files, const std::filesystem::path& run_folder) {
  constexpr std::string_view kPrefix = "checkpoint-";
  std::vector<int64_t> steps;
  for (const std::string& name : files.NamesIn(run_folder, kPrefix)) {
    int64_t step = 0;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (error == std::errc() && rest == end && step >= 0) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<std::string> ReadSaidWords(const ReportFiles& files,
                                       const std::filesystem::path& run_folder) {
  constexpr int64_t kMostBytes = 1 << 20;
  constexpr size_t kMostLines = 40;
  std::vector<std::string> said;
  if (const auto messages = files.ReadTail(run_folder / "messages.txt", kMostBytes)) {
    for (const std::string_view line : Lines(*messages)) {
      // "2026-03-01T12:00:05Z words"
      constexpr size_t kTime = 20;
      if (line.size() <= kTime + 1 || line[kTime - 1] != 'Z' || line[kTime] != ' ') continue;
      said.push_back(fmt::format("{}, {} {} UTC", line.substr(kTime + 1), line.substr(0, 10),
                                 line.substr(11, 8)));
    }
    if (said.size() > kMostLines) said.erase(said.begin(), said.end() - kMostLines);
    return said;
  }
  const std::optional<std::string> output = files.ReadTail(run_folder / "output.txt", kMostBytes);
  if (!output) return said;
  for (const std::string_view line : Lines(*output)) {
    constexpr std::string_view kName = "hearth: ";
    // Behind a progress line that returns to its start.
    const std::string_view words = line.substr(line.rfind('\r') + 1);
    if (words.starts_with(kName)) said.emplace_back(words.substr(kName.size()));
  }
  if (said.size() > kMostLines) said.erase(said.begin(), said.end() - kMostLines);
  return said;
}

}  // namespace hearth
