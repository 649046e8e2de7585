// Logs for other programs: W&B's offline runs and Prometheus' text files.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/telemetry/logger.h"
#include "runtime/telemetry/prometheus_file.h"
#include "runtime/telemetry/wandb_log.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using test::TemporaryFolder;

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// An independent reader, written from LevelDB's description of its log: whole records.
std::vector<std::string> ReadFrames(const std::string& file) {
  std::vector<std::string> records;
  std::string record;
  size_t at = 7;
  while (at < file.size()) {
    const size_t left = 32768 - at % 32768;
    if (left < 7) {
      EXPECT_EQ(file.substr(at, left), std::string(left, '\0'));
      at += left;
      continue;
    }
    uint32_t crc = 0;
    uint16_t length = 0;
    std::memcpy(&crc, file.data() + at, 4);
    std::memcpy(&length, file.data() + at + 4, 2);
    const int kind = file[at + 6];
    EXPECT_LE(length + 7u, left);
    EXPECT_EQ(Crc32(std::string_view(file).substr(at + 6, length + 1u)), crc);
    record += file.substr(at + 7, length);
    at += 7u + length;
    if (kind == 1 || kind == 4) records.push_back(std::exchange(record, ""));
  }
  EXPECT_EQ(record, "");
  return records;
}

// The fields of a message of variable-length integers and bytes.
struct Message {
  std::multimap<int, std::string> bytes;
  std::map<int, uint64_t> integers;

  explicit Message(const std::string& text) {
    size_t at = 0;
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0;; shift += 7) {
        const auto byte = static_cast<unsigned char>(text.at(at++));
        value |= static_cast<uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
      }
    };
    while (at < text.size()) {
      const uint64_t tag = varint();
      const int field = static_cast<int>(tag >> 3);
      if ((tag & 7) == 0) {
        integers[field] = varint();
      } else {
        EXPECT_EQ(tag & 7, 2u);
        const uint64_t size = varint();
        bytes.emplace(field, text.substr(at, size));
        at += size;
      }
    }
  }
  std::string Text(int field) const {
    return bytes.count(field) > 0 ? bytes.find(field)->second : "(none)";
  }
};

// A history record's values by name, as JSON.
std::map<std::string, std::string> History(const std::string& record) {
  const Message history(Message(record).Text(2));
  std::map<std::string, std::string> values;
  const auto [begin, end] = history.bytes.equal_range(1);
  for (auto item = begin; item != end; ++item) {
    values[Message(item->second).Text(1)] = Message(item->second).Text(16);
  }
  return values;
}

// The only run of a folder wandb/.
std::filesystem::path RunFile(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".wandb") files.push_back(entry.path());
  }
  EXPECT_EQ(files.size(), 1u);
  return files.empty() ? "" : files[0];
}

TEST(WandbLogTest, ChecksumIsThatOfZlib) {
  EXPECT_EQ(Crc32("123456789"), 0xCBF43926u);  // the check value in every list of CRCs
  EXPECT_EQ(Crc32(""), 0u);
}

TEST(WandbLogTest, RecordsOfEverySizeComeBackAcrossBlocks) {
  std::string file = "HEADER7";
  std::vector<std::string> records;
  for (size_t size = 0; size < 90'000; size += size < 40 ? 1 : size / 3) {
    records.push_back(std::string(size, static_cast<char>('a' + size % 26)));
  }
  // Up to the end of a block, so that each number of bytes is left in it once.
  for (int64_t gap = 0; gap <= 16; ++gap) {
    const int64_t at = std::ssize(file) % 32768;
    records.push_back(std::string(static_cast<size_t>(2 * 32768 - at - 14 - gap), 'x'));
    file += FrameWandbRecord(records.back(), std::ssize(file));
    records.push_back("behind it");
    file += FrameWandbRecord(records.back(), std::ssize(file));
  }
  std::string first = "HEADER7";
  const size_t sizes = records.size() - 34;
  for (size_t i = 0; i < sizes; ++i) first += FrameWandbRecord(records[i], std::ssize(first));
  EXPECT_EQ(ReadFrames(first),
            std::vector(records.begin(), records.begin() + static_cast<long>(sizes)));
  EXPECT_EQ(ReadFrames(file),
            std::vector(records.begin() + static_cast<long>(sizes), records.end()));
}

TEST(WandbLogTest, ARunHasItsConfigurationStepsAndEnd) {
  const TemporaryFolder folder;
  {
    WandbLog log(folder.path() / "wandb", {.name = "my run",
                                           .config = {{"optimizer.learning_rate", "0.0003"},
                                                      {"deterministic", "true"},
                                                      {"data.datasets", "[{path: a}]"}}});
    log.Append({.step = 0, .values = {{"eval/loss", 5.5f}}}, 1e9);
    log.Append({.step = 1, .values = {{"train/loss", 0.1f}}}, 1e9);
    log.Append({.step = 1, .values = {{"eval/loss", 2.0}, {"gpu/throttling", std::string("h\"t")}}},
               std::nullopt);
    log.Append({.step = 2, .values = {{"train/loss", std::nanf("")}}}, std::nullopt);
  }
  const std::filesystem::path path = RunFile(folder.path());
  const std::string id = path.stem().string().substr(4);
  EXPECT_EQ(id.size(), 8u);
  EXPECT_EQ(path.parent_path().filename().string().substr(0, 12), "offline-run-");
  EXPECT_EQ(path.parent_path().extension().string(), "");
  const std::string file = ReadAll(path);
  EXPECT_EQ(file.substr(0, 7), std::string("\x3aW&B\xe1\xbe\x00", 7));
  const std::vector<std::string> records = ReadFrames(file);
  ASSERT_EQ(records.size(), 6u);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(Message(records[i]).integers[1], i + 1);
  EXPECT_EQ(Message(records[0]).bytes.count(21), 1u);  // header
  const Message run(Message(records[1]).Text(17));
  EXPECT_EQ(run.Text(1), id);
  EXPECT_EQ(run.Text(3), "hearth");
  EXPECT_EQ(run.Text(8), "my run");
  std::map<std::string, std::string> config;
  const Message config_record(run.Text(4));
  const auto [begin, end] = config_record.bytes.equal_range(1);
  for (auto item = begin; item != end; ++item) {
    config[Message(item->second).Text(1)] = Message(item->second).Text(16);
  }
  EXPECT_EQ(config["optimizer.learning_rate"], "0.0003");
  EXPECT_EQ(config["deterministic"], "true");
  EXPECT_EQ(config["data.datasets"], "\"[{path: a}]\"");

  auto history = History(records[3]);  // both records of step 1
  EXPECT_EQ(history["train/loss"], "0.1");
  EXPECT_EQ(history["eval/loss"], "2.0");
  EXPECT_EQ(history["gpu/throttling"], "\"h\\\"t\"");
  EXPECT_EQ(history["_step"], "1");
  EXPECT_EQ(history["_timestamp"], "1000000000.0");
  EXPECT_EQ(Message(Message(Message(records[3]).Text(2)).Text(2)).integers[1], 1u);
  EXPECT_EQ(History(records[2])["_step"], "0");
  EXPECT_EQ(History(records[4])["train/loss"], "\"NaN\"");
  EXPECT_EQ(Message(records[5]).bytes.count(18), 1u);  // exit
}

TEST(PrometheusFileTest, TheLatestNumbersAreOneGaugeEach) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "metrics.prom";
  PrometheusFile file(path, "a \"b\"\\\n");
  file.Update({.step = 1, .values = {{"train/loss", 2.5}, {"gpu/throttling", std::string("heat")}}},
              1);
  file.Update({.step = 2,
               .values = {{"train/loss", std::numeric_limits<double>::infinity()},
                          {"eval/loss", std::nan("")},
                          {"fp8/amax/layer.0", int64_t{3}}}},
              1234.5);
  EXPECT_EQ(ReadAll(path),
            "# TYPE hearth_eval_loss gauge\n"
            "hearth_eval_loss{run=\"a \\\"b\\\"\\\\\\n\"} NaN\n"
            "# TYPE hearth_fp8_amax_layer_0 gauge\n"
            "hearth_fp8_amax_layer_0{run=\"a \\\"b\\\"\\\\\\n\"} 3\n"
            "# TYPE hearth_step gauge\n"
            "hearth_step{run=\"a \\\"b\\\"\\\\\\n\"} 2\n"
            "# TYPE hearth_train_loss gauge\n"
            "hearth_train_loss{run=\"a \\\"b\\\"\\\\\\n\"} +Inf\n"
            "# TYPE hearth_updated_timestamp_seconds gauge\n"
            "hearth_updated_timestamp_seconds{run=\"a \\\"b\\\"\\\\\\n\"} 1234.500\n");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / ".metrics.prom.next"));
  PrometheusFile nowhere(folder.path() / "absent" / "metrics.prom", "x");
  EXPECT_THROW(nowhere.Update({.step = 1, .values = {}}, 1), IoError);
}

LoggerOptions OtherLogs(const TemporaryFolder& folder, int64_t resume_step) {
  return {.output_dir = folder.path(),
          .run_name = "run",
          .jsonl = true,
          .tensorboard = false,
          .wandb = true,
          .prometheus = true,
          .resume_step = resume_step,
          .progress = {.enabled = false}};
}

TEST(OtherLogsTest, AResumedRunIsOneWandbRunWithEveryStepOnce) {
  const TemporaryFolder folder;
  std::string id;
  {
    Logger logger(OtherLogs(folder, -1));
    for (int64_t step = 1; step <= 3; ++step) {
      logger.Log({.step = step, .values = {{"train/loss", 1.0f / static_cast<float>(step)}}});
    }
    ASSERT_TRUE(logger.Flush());
    id = RunFile(folder.path() / "wandb").stem();
  }
  {
    Logger logger(OtherLogs(folder, 2));  // step 3 is made again
    logger.Log({.step = 3, .values = {{"train/loss", 7.0f}}});
    logger.Log({.step = 4, .values = {{"train/loss", 8.0f}}});
    ASSERT_TRUE(logger.Flush());
    EXPECT_EQ(logger.failures(), 0);
  }
  const std::filesystem::path path = RunFile(folder.path() / "wandb");
  EXPECT_EQ(path.stem(), id);
  const std::vector<std::string> records = ReadFrames(ReadAll(path));
  ASSERT_EQ(records.size(), 7u);
  std::vector<std::string> losses;
  for (size_t i = 2; i < 6; ++i) losses.push_back(History(records[i])["train/loss"]);
  EXPECT_EQ(losses[0], "1.0");
  EXPECT_EQ(losses[1], "0.5");
  EXPECT_EQ(losses[2], "7.0");
  EXPECT_EQ(losses[3], "8.0");
  EXPECT_NE(ReadAll(folder.path() / "metrics.prom").find("hearth_step{run=\"run\"} 4\n"),
            std::string::npos);
  // A run that starts has no part of an earlier one.
  { Logger logger(OtherLogs(folder, -1)); }
  EXPECT_NE(RunFile(folder.path() / "wandb").stem(), id);
}

TEST(OtherLogsTest, TargetsThatFailDoNotStopTheOthers) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "wandb") << "in the way";
  std::filesystem::create_directories(folder.path() / "metrics.prom" / "in the way");
  Logger logger(OtherLogs(folder, 0));
  logger.Log({.step = 1, .values = {{"train/loss", 4.0f}}});
  logger.Log({.step = 2, .values = {{"train/loss", 3.0f}}});
  logger.Flush();
  EXPECT_EQ(ReadAll(folder.path() / "log.jsonl"),
            "{\"step\":1,\"train/loss\":4.0}\n{\"step\":2,\"train/loss\":3.0}\n");
  EXPECT_EQ(logger.failures(), 3);  // one folder, two files
}

}  // namespace
}  // namespace hearth
