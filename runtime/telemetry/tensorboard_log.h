// TensorBoard event files: TFRecord framing around Event messages in the protocol buffers' wire
// format (event.proto and summary.proto of TensorFlow). Only scalars are written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

// One TFRecord: length (u64), masked CRC of the length, data, masked CRC of the data; little
// endian.
std::string FrameTfRecord(std::string_view data);

// The Event that opens a file.
std::string EncodeVersionEvent(double wall_time_s);
// An Event that makes TensorBoard forget what earlier files of the folder say from `step` on.
std::string EncodeRestartEvent(double wall_time_s, int64_t step);
// All numbers of a record; text is left out.
std::string EncodeScalarsEvent(double wall_time_s, const StepRecord& record);

class TensorboardLog {
 public:
  // Creates the folder, and in it a new file that sorts behind the older ones. first_step: the next
  // step to come, when earlier files may hold it and later ones already. IoError when that fails.
  TensorboardLog(const std::filesystem::path& folder, std::optional<int64_t> first_step);

  void Append(const StepRecord& record);
  void Sync() { file_.Sync(); }

 private:
  AppendFile file_;
};

}  // namespace hearth
