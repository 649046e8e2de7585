#include "runtime/telemetry/wandb_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "runtime/telemetry/protobuf_writer.h"

namespace hearth {

namespace {

constexpr std::string_view kHeader("\x3aW&B\xe1\xbe\x00", 7);  // name, magic number, version 0
constexpr int64_t kBlockBytes = 32768;
constexpr int64_t kFrameBytes = 7;  // CRC, length, kind
enum FrameKind : char { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

// Field numbers of wandb_internal.proto.
enum RecordField { kNumber = 1, kHistory = 2, kRun = 17, kExit = 18, kHeaderRecord = 21 };
enum HeaderField { kVersionInfo = 1 };
enum VersionField { kProducer = 1 };
enum RunField {
  kRunId = 1,
  kProject = 3,
  kConfig = 4,
  kDisplayName = 8,
  kHost = 13,
  kStartTime = 17
};
enum ConfigField { kUpdate = 1 };
enum ItemField { kKey = 1, kValueJson = 16 };  // of ConfigItem and HistoryItem
enum HistoryField { kItem = 1, kStep = 2 };
enum StepField { kStepNumber = 1 };
enum TimestampField { kSeconds = 1 };
enum ExitField { kExitCode = 1 };

constexpr size_t kIdLetters = 8;
constexpr std::string_view kPrefix = "offline-run-";
constexpr std::string_view kProjectName = "hearth";

std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0u);
    table[byte] = value;
  }
  return table;
}

std::string Frame(FrameKind kind, std::string_view data) {
  std::string checked(1, kind);
  checked += data;
  std::string frame;
  AppendLittleEndian(frame, Crc32(checked));
  AppendLittleEndian(frame, static_cast<uint16_t>(data.size()));
  return frame + checked;
}

int64_t Nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// W&B allows each name once in a project's life, so it depends on the time (FNV-1a).
std::string NewId(const std::string& seed) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : fmt::format("{} {}", seed, Nanoseconds())) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  std::string id;
  for (; id.size() < kIdLetters; hash /= kLetters.size()) id += kLetters[hash % kLetters.size()];
  return id;
}

// The run's folder of an earlier process; "" when there is none.
std::filesystem::path FindRun(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(folder, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.rfind(kPrefix, 0) == 0 && name.size() > kPrefix.size() + kIdLetters) {
      found.push_back(entry->path());
    }
  }
  return found.empty() ? "" : *std::max_element(found.begin(), found.end());
}

// YAML's numbers and booleans are JSON's; all else is text.
std::string ConfigJson(const std::string& text) {
  const auto parsed = nlohmann::json::parse(text, nullptr, false);
  if (parsed.is_number() || parsed.is_boolean() || parsed.is_null() || parsed.is_string()) {
    return text;
  }
  return ToJson(StepValue(text));
}

ProtobufWriter Item(const std::string& key, const std::string& json) {
  return ProtobufWriter().Bytes(kKey, key).Bytes(kValueJson, json);
}

std::string RunMessage(const WandbRun& run, const std::string& id) {
  ProtobufWriter config;
  for (const auto& [key, text] : run.config) config.Message(kUpdate, Item(key, ConfigJson(text)));
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return ProtobufWriter()
      .Bytes(kRunId, id)
      .Bytes(kProject, kProjectName)
      .Message(kConfig, config)
      .Bytes(kDisplayName, run.name)
      .Bytes(kHost, host.data())
      .Message(kStartTime, ProtobufWriter().Integer(kSeconds, Nanoseconds() / 1'000'000'000))
      .bytes();
}

}  // namespace

uint32_t Crc32(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = MakeCrcTable();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string FrameWandbRecord(std::string_view record, int64_t offset) {
  std::string out;
  bool is_first = true;
  while (true) {
    const int64_t at = offset + static_cast<int64_t>(out.size());
    const int64_t left = kBlockBytes - at % kBlockBytes;
    if (left < kFrameBytes) {
      out.append(static_cast<size_t>(left), '\0');
      continue;
    }
    const auto room = static_cast<size_t>(left - kFrameBytes);
    const bool is_last = record.size() <= room;
    const std::string_view piece = record.substr(0, room);
    out += Frame(is_first ? (is_last ? kFull : kFirst) : (is_last ? kLast : kMiddle), piece);
    if (is_last) return out;
    record.remove_prefix(piece.size());
    is_first = false;
  }
}

WandbLog::WandbLog(const std::filesystem::path& folder, const WandbRun& run) {
  std::filesystem::path run_folder = FindRun(folder);
  std::string id;
  if (run_folder.empty()) {
    id = NewId(folder.string() + run.name);
    const std::time_t now = static_cast<std::time_t>(Nanoseconds() / 1'000'000'000);
    run_folder = folder / fmt::format("{}{:%Y%m%d_%H%M%S}-{}", kPrefix, fmt::gmtime(now), id);
  } else {
    const std::string name = run_folder.filename();
    id = name.substr(name.size() - kIdLetters);
  }
  std::error_code error;
  std::filesystem::create_directories(run_folder / "files", error);
  if (error) {
    throw IoError(fmt::format("{}: cannot be created: {}", run_folder.string(), error.message()));
  }
  const std::filesystem::path path = run_folder / fmt::format("run-{}.wandb", id);
  std::filesystem::remove(path, error);
  for (const char* mark : {".synced", ".syncstate"}) {  // it is not any more
    std::filesystem::remove(path.string() + mark, error);
  }
  file_.emplace(path);
  file_->Append(kHeader);
  size_ = std::ssize(kHeader);
  AppendRecord(kHeaderRecord,
               ProtobufWriter()
                   .Message(kVersionInfo, ProtobufWriter().Bytes(kProducer, kProjectName))
                   .bytes());
  AppendRecord(kRun, RunMessage(run, id));
}

WandbLog::~WandbLog() {
  try {
    WritePending();
    AppendRecord(kExit, ProtobufWriter().Integer(kExitCode, 0).bytes());
  } catch (const std::exception& error) {
    LogWarning(error.what());
  }
}

void WandbLog::Append(const StepRecord& record, std::optional<double> wall_time_s) {
  if (pending_ && pending_->step != record.step) WritePending();
  if (!pending_) pending_ = StepRecord{.step = record.step, .values = {}};
  for (const auto& [name, value] : record.values) pending_->Set(name, value);
  if (wall_time_s) pending_->Set("_timestamp", *wall_time_s);
}

void WandbLog::WritePending() {
  if (!pending_) return;
  const StepRecord record = *std::exchange(pending_, std::nullopt);
  ProtobufWriter history;
  for (const auto& [name, value] : record.values) {
    history.Message(kItem, Item(name, ToJson(value)));
  }
  history.Message(kItem, Item("_step", ToJson(StepValue(record.step))));
  history.Message(kStep, ProtobufWriter().Integer(kStepNumber, record.step));
  AppendRecord(kHistory, history.bytes());
}

void WandbLog::AppendRecord(int field, std::string_view message) {
  const std::string record =
      ProtobufWriter().Integer(kNumber, records_ + 1).Bytes(field, message).bytes();
  const std::string framed = FrameWandbRecord(record, size_);
  file_->Append(framed);  // as a whole or not at all, so that the numbers below stay true
  size_ += std::ssize(framed);
  ++records_;
}

}  // namespace hearth
