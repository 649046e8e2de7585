// The timeline of a step as a file that chrome://tracing and Perfetto open.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/plan/schedule.h"
#include "runtime/train/task_timer.h"

namespace hearth {

// Where the timeline of a rank's step lies in the folder of a run.
std::filesystem::path TracePath(const std::filesystem::path& run_folder, int64_t step, int rank);

// Trace-event JSON: the rank is a process, its streams are threads, tasks are complete events ("X")
// in microseconds since the step began. Of Google's "Trace Event Format". `times` by task.
std::string TraceJson(const Schedule& schedule, const ModelSpec& spec,
                      const std::vector<TaskTime>& times, int rank);

// Writes it, with its folder; the file is whole or not there. IoError.
void WriteTrace(const std::filesystem::path& path, const std::string& json);

}  // namespace hearth
