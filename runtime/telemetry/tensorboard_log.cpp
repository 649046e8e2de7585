#include "runtime/telemetry/tensorboard_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <variant>

#include "kernels/core/error.h"
#include "runtime/telemetry/crc32c.h"

namespace hearth {

namespace {

// Field numbers of event.proto and summary.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1 };
enum SummaryValueField { kTag = 1, kSimpleValue = 2 };
enum SessionLogField { kStatus = 1 };
constexpr uint64_t kSessionStart = 1;

enum WireType { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

template <typename Integer>
void AppendLittleEndian(std::string& out, Integer value) {
  for (size_t byte = 0; byte < sizeof(Integer); ++byte) {
    out.push_back(static_cast<char>(value >> (8 * byte) & 0xff));
  }
}

void AppendVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>((value & 0x7f) | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendTag(std::string& out, int field, WireType type) {
  AppendVarint(out, static_cast<uint64_t>(field) << 3 | type);
}

void AppendBytes(std::string& out, int field, std::string_view bytes) {
  AppendTag(out, field, kLengthDelimited);
  AppendVarint(out, bytes.size());
  out += bytes;
}

void AppendInteger(std::string& out, int field, int64_t value) {
  AppendTag(out, field, kVarint);
  AppendVarint(out, static_cast<uint64_t>(value));
}

std::string StartEvent(double wall_time_s) {
  std::string event;
  AppendTag(event, kWallTime, kFixed64);
  AppendLittleEndian(event, std::bit_cast<uint64_t>(wall_time_s));
  return event;
}

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads a folder's files in the order of their names: the time comes first.
std::filesystem::path NewEventFile(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw IoError(fmt::format("{}: cannot be created: {}", folder.string(), error.message()));
  }
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  const auto nanoseconds = static_cast<int64_t>(WallTime() * 1e9);
  return folder / fmt::format("events.out.tfevents.{}.{:09}.{}.{}", nanoseconds / 1'000'000'000,
                              nanoseconds % 1'000'000'000, host, getpid());
}

}  // namespace

std::string FrameTfRecord(std::string_view data) {
  std::string frame;
  AppendLittleEndian(frame, static_cast<uint64_t>(data.size()));
  AppendLittleEndian(frame, MaskedCrc32c(frame));
  frame += data;
  AppendLittleEndian(frame, MaskedCrc32c(data));
  return frame;
}

std::string EncodeVersionEvent(double wall_time_s) {
  std::string event = StartEvent(wall_time_s);
  AppendBytes(event, kFileVersion, "brain.Event:2");
  return event;
}

std::string EncodeRestartEvent(double wall_time_s, int64_t step) {
  std::string event = StartEvent(wall_time_s);
  AppendInteger(event, kStep, step);
  std::string session;
  AppendInteger(session, kStatus, kSessionStart);
  AppendBytes(event, kSessionLog, session);
  return event;
}

std::string EncodeScalarsEvent(double wall_time_s, const StepRecord& record) {
  std::string summary;
  for (const auto& [name, value] : record.values) {
    if (std::holds_alternative<std::string>(value)) continue;
    std::string scalar;
    AppendBytes(scalar, kTag, name);
    AppendTag(scalar, kSimpleValue, kFixed32);
    const auto number = static_cast<float>(*record.Number(name));
    AppendLittleEndian(scalar, std::bit_cast<uint32_t>(number));
    AppendBytes(summary, kValue, scalar);
  }
  std::string event = StartEvent(wall_time_s);
  AppendInteger(event, kStep, record.step);
  AppendBytes(event, kSummary, summary);
  return event;
}

TensorboardLog::TensorboardLog(const std::filesystem::path& folder,
                               std::optional<int64_t> first_step)
    : file_(NewEventFile(folder)) {
  file_.Append(FrameTfRecord(EncodeVersionEvent(WallTime())));
  if (first_step) file_.Append(FrameTfRecord(EncodeRestartEvent(WallTime(), *first_step)));
}

void TensorboardLog::Append(const StepRecord& record) {
  file_.Append(FrameTfRecord(EncodeScalarsEvent(WallTime(), record)));
}

}  // namespace hearth
