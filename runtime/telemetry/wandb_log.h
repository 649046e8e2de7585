// A run of Weights & Biases in its offline form, which `wandb sync` sends: a folder
// offline-run-<time>-<id>/ with the log run-<id>.wandb. That is LevelDB's log format (blocks of
// 32 KiB, records cut at their ends) behind a header of 7 bytes, but with zlib's CRC-32; each
// record is a Record message of wandb_internal.proto.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

// The CRC-32 of zlib and PNG.
uint32_t Crc32(std::string_view bytes);

// The bytes that put a record into a log of `offset` bytes.
std::string FrameWandbRecord(std::string_view record, int64_t offset);

struct WandbRun {
  std::string name;
  // Dotted key and value, the latter as YAML flow text.
  std::vector<std::pair<std::string, std::string>> config;
};

class WandbLog {
 public:
  // Where `folder` (wandb/ of a run) already has a run, that one is written again from its
  // beginning: whoever goes on with a run appends first what its log holds. Otherwise makes one.
  // IoError when that fails.
  WandbLog(const std::filesystem::path& folder, const WandbRun& run);
  // Marks the run as ended.
  ~WandbLog();
  WandbLog(const WandbLog&) = delete;
  WandbLog& operator=(const WandbLog&) = delete;

  // wall_time_s: when it was logged; nothing for one from an earlier process. Records of one step
  // that follow each other become one: they are written when the next step comes.
  void Append(const StepRecord& record, std::optional<double> wall_time_s);
  void Sync() { file_->Sync(); }

 private:
  void AppendRecord(int field, std::string_view message);
  void WritePending();

  std::optional<AppendFile> file_;
  int64_t size_ = 0;     // bytes in the file
  int64_t records_ = 0;  // so far
  std::optional<StepRecord> pending_;
};

}  // namespace hearth
