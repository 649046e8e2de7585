#include "runtime/telemetry/logger.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

class LoggerTest : public testing::Test {
 protected:
  LoggerOptions Options(int64_t resume_step = -1) const {
    return {.output_dir = folder_,
            .run_name = "run",
            .jsonl = true,
            .tensorboard = true,
            .resume_step = resume_step,
            .progress = {.enabled = false}};
  }

  std::string Log() const {
    std::ifstream in(folder_ / "log.jsonl", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  int64_t EventFiles() const {
    if (!std::filesystem::exists(folder_ / "tb")) return 0;
    const std::filesystem::directory_iterator files(folder_ / "tb");
    return std::distance(begin(files), end(files));
  }

  static StepRecord Train(int64_t step, float loss) {
    return {.step = step, .values = {{"train/loss", loss}}};
  }

  const test::TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

TEST_F(LoggerTest, FlushedRecordsAreInTheFile) {
  Logger logger(Options());
  logger.Log(Train(1, 4.0f));
  logger.Log({.step = 1, .values = {{"eval/loss", 4.5f}}});
  ASSERT_TRUE(logger.Flush());
  EXPECT_EQ(Log(), "{\"step\":1,\"train/loss\":4.0}\n{\"step\":1,\"eval/loss\":4.5}\n");
  EXPECT_EQ(EventFiles(), 1);
  EXPECT_EQ(logger.failures(), 0);
}

TEST_F(LoggerTest, AResumedRunContinuesLogAndCurve) {
  {
    Logger logger(Options());
    for (int64_t step = 1; step <= 5; ++step) logger.Log(Train(step, 1.0f));
  }
  std::ofstream(folder_ / "log.jsonl", std::ios::app) << "{\"step\":6,\"tra";
  Logger logger(Options(3));
  logger.Log(Train(4, 2.0f));
  ASSERT_TRUE(logger.Flush());
  EXPECT_EQ(Log(),
            "{\"step\":1,\"train/loss\":1.0}\n{\"step\":2,\"train/loss\":1.0}\n"
            "{\"step\":3,\"train/loss\":1.0}\n{\"step\":4,\"train/loss\":2.0}\n");
  ASSERT_EQ(logger.Curve().train.size(), 4u);
  EXPECT_EQ(logger.Curve().train[3].loss, 2.0);
  EXPECT_EQ(EventFiles(), 2);
}

TEST_F(LoggerTest, AStartingRunBeginsEmpty) {
  {
    Logger logger(Options());
    logger.Log(Train(1, 1.0f));
  }
  Logger logger(Options());
  ASSERT_TRUE(logger.Flush());
  EXPECT_EQ(Log(), "");
  EXPECT_EQ(EventFiles(), 1);
  EXPECT_TRUE(logger.Curve().train.empty());
}

TEST_F(LoggerTest, OnlyWhatIsAskedForIsWritten) {
  LoggerOptions options = Options();
  options.jsonl = false;
  options.tensorboard = false;
  Logger logger(options);
  logger.Log(Train(1, 1.0f));
  ASSERT_TRUE(logger.Flush());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_EQ(logger.Curve().train.size(), 1u);
}

TEST_F(LoggerTest, FailuresAreCountedAndReportedOnce) {
  std::filesystem::create_directory(folder_ / "log.jsonl");  // cannot be opened as a file
  std::ofstream(folder_ / "tb") << "a file where a folder should be";
  LoggerOptions options = Options(1);
  testing::internal::CaptureStderr();
  {
    Logger logger(options);
    logger.Log(Train(2, 1.0f));
    logger.Log(Train(3, 1.0f));
    logger.Flush();
    EXPECT_EQ(logger.failures(), 2);
    std::filesystem::remove_all(folder_);
    logger.WriteLossSvg();
    logger.WriteLossSvg();
    EXPECT_FALSE(logger.Flush());
    EXPECT_EQ(logger.failures(), 4);
  }
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 3) << warnings;
  EXPECT_NE(warnings.find("loss.svg fails; the run goes on without it"), std::string::npos);
}

TEST_F(LoggerTest, WritesThePicture) {
  {
    Logger logger(Options());
    logger.Log(Train(1, 1.0f));
    logger.WriteLossSvg();
    logger.WriteLossSvg();
  }
  std::ifstream in(folder_ / "loss.svg");
  std::string first;
  std::getline(in, first);
  EXPECT_EQ(first.rfind("<svg ", 0), 0u);
  EXPECT_FALSE(std::filesystem::exists(folder_ / ".loss.svg.next"));
}

// A named pipe that nobody serves stands for a disk that does not answer.
TEST_F(LoggerTest, ADiskThatHangsDoesNotBlockTheRun) {
  ASSERT_EQ(mkfifo((folder_ / "log.jsonl").c_str(), 0600), 0);
  LoggerOptions options = Options();
  options.goodbye_timeout = std::chrono::milliseconds(20);
  testing::internal::CaptureStderr();
  {
    Logger logger(options);
    for (int64_t step = 0; step < 20'000; ++step) logger.Log(Train(step, 1.0f));
    EXPECT_FALSE(logger.Flush(std::chrono::milliseconds(20)));
    EXPECT_GT(logger.failures(), 10'000);
    EXPECT_TRUE(logger.Curve(std::chrono::milliseconds(20)).train.empty());
  }
  EXPECT_NE(testing::internal::GetCapturedStderr().find("does not answer"), std::string::npos);
}

}  // namespace
}  // namespace hearth
