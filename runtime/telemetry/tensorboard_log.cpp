#include "runtime/telemetry/tensorboard_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <variant>

#include "kernels/core/error.h"
#include "runtime/telemetry/crc32c.h"
#include "runtime/telemetry/protobuf_writer.h"

namespace hearth {

namespace {

// Field numbers of event.proto and summary.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1 };
enum SummaryValueField { kTag = 1, kSimpleValue = 2 };
enum SessionLogField { kStatus = 1 };
constexpr int64_t kSessionStart = 1;

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
  return ProtobufWriter()
      .Double(kWallTime, wall_time_s)
      .Bytes(kFileVersion, "brain.Event:2")
      .bytes();
}

std::string EncodeRestartEvent(double wall_time_s, int64_t step) {
  return ProtobufWriter()
      .Double(kWallTime, wall_time_s)
      .Integer(kStep, step)
      .Message(kSessionLog, ProtobufWriter().Integer(kStatus, kSessionStart))
      .bytes();
}

std::string EncodeScalarsEvent(double wall_time_s, const StepRecord& record) {
  ProtobufWriter summary;
  for (const auto& [name, value] : record.values) {
    if (std::holds_alternative<std::string>(value)) continue;
    const auto number = static_cast<float>(*record.Number(name));
    summary.Message(kValue, ProtobufWriter().Bytes(kTag, name).Float(kSimpleValue, number));
  }
  return ProtobufWriter()
      .Double(kWallTime, wall_time_s)
      .Integer(kStep, record.step)
      .Message(kSummary, summary)
      .bytes();
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
