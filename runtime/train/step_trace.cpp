#include "runtime/train/step_trace.h"

#include <fmt/format.h>

#include <fstream>
#include <system_error>

#include "kernels/core/check.h"

namespace hearth {

namespace {

std::string UnitName(const ModelSpec& spec, int unit) {
  if (unit < 0) return "";
  if (unit == spec.embedding_unit()) return "embedding";
  if (unit == spec.head_unit()) return "head";
  return fmt::format("block {}", unit - spec.block_unit(0));
}

// Viewers sort threads by number, and begin with one.
int Thread(StreamId stream) { return static_cast<int>(stream) + 1; }

std::string Slice(const Task& task, const TaskTime& time, const ModelSpec& spec, int rank) {
  const std::string unit = UnitName(spec, task.unit);
  std::string name(Name(task.kind));
  if (!unit.empty()) name += " " + unit;
  std::string arguments = fmt::format("\"task\":{}", task.id);
  if (task.micro_batch >= 0) arguments += fmt::format(",\"micro_batch\":{}", task.micro_batch);
  if (task.kind == TaskKind::kRecompute) {
    arguments += fmt::format(",\"segment\":\"{}\"", Name(task.segment));
  }
  if (task.step_offset != 0) arguments += ",\"of\":\"the step before\"";
  if (task.bytes > 0) arguments += fmt::format(",\"bytes\":{}", task.bytes);
  if (task.flops > 0) arguments += fmt::format(",\"flops\":{}", task.flops);
  if (!task.waits.empty()) arguments += fmt::format(",\"after\":[{}]", fmt::join(task.waits, ","));
  constexpr double kMicroseconds = 1e6;
  return fmt::format(
      "{{\"ph\":\"X\",\"pid\":{},\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f},\"cat\":\"{}\","
      "\"name\":\"{}\",\"args\":{{{}}}}}",
      rank + 1, Thread(task.stream), time.begin * kMicroseconds,
      (time.end - time.begin) * kMicroseconds, Name(task.kind), name, arguments);
}

std::string Naming(std::string_view what, int rank, int thread, std::string_view name) {
  return fmt::format(
      "{{\"ph\":\"M\",\"pid\":{},\"tid\":{},\"name\":\"{}\",\"args\":{{\"name\":\"{}\"}}}}",
      rank + 1, thread, what, name);
}

}  // namespace

std::filesystem::path TracePath(const std::filesystem::path& run_folder, int64_t step, int rank) {
  return run_folder / "trace" / fmt::format("step-{}-rank-{}.json", step, rank);
}

std::string TraceJson(const Schedule& schedule, const ModelSpec& spec,
                      const std::vector<TaskTime>& times, int rank) {
  CHECK(times.size() == schedule.tasks.size(), "the times of {} tasks, a schedule of {}",
        times.size(), schedule.tasks.size());
  std::string json = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  json += Naming("process_name", rank, 0, fmt::format("rank {}", rank));
  for (int stream = 0; stream < kStreamCount; ++stream) {
    const auto id = static_cast<StreamId>(stream);
    json += ",\n" + Naming("thread_name", rank, Thread(id), Name(id));
  }
  for (const Task& task : schedule.tasks) {
    json += ",\n" + Slice(task, times[static_cast<size_t>(task.id)], spec, rank);
  }
  return json + "\n]}\n";
}

void WriteTrace(const std::filesystem::path& path, const std::string& json) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  const std::filesystem::path unfinished = path.string() + ".unfinished";
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  file << json;
  file.close();
  if (file) std::filesystem::rename(unfinished, path, error);
  if (!file || error) throw IoError(fmt::format("{}: error: cannot be written", path.string()));
}

}  // namespace hearth
