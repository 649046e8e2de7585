// Names of checkpoints: published in one step, never overwritten in place, removed as a whole.

#include "runtime/checkpoint/folders.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

using Steps = std::vector<int64_t>;

class Folders : public testing::Test {
 protected:
  const std::filesystem::path& dir() const { return folder_.path(); }

  void Publish(int64_t step, const std::string& content = "x") const {
    const std::filesystem::path unfinished = MakeUnfinishedFolder(dir(), step);
    WriteDurably(unfinished / "file", content);
    PublishCheckpoint(unfinished, dir(), step);
    EXPECT_FALSE(std::filesystem::exists(unfinished));
  }
  std::string Content(int64_t step) const {
    std::ifstream in(dir() / CheckpointName(step) / "file");
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  size_t Entries() const {
    const std::filesystem::directory_iterator entries(dir());
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }

 private:
  test::TemporaryFolder folder_;
};

TEST_F(Folders, ListsByNumber) {
  for (int64_t step : {100, 9, 20}) Publish(step);
  for (const char* name : {"checkpoint-", "checkpoint-07", "checkpoint--1", "checkpoint-5x",
                           "checkpoint-99999999999999999999", "xcheckpoint-3", ".checkpoint-4"}) {
    std::filesystem::create_directory(dir() / name);
  }
  std::ofstream(dir() / "checkpoint-6") << "a file";
  EXPECT_EQ(CheckpointSteps(dir()), Steps({9, 20, 100}));
  EXPECT_EQ(CheckpointSteps(dir() / "missing"), Steps());
}

TEST_F(Folders, PublishingReplacesAWholeFolder) {
  Publish(5, "old");
  std::ofstream(dir() / CheckpointName(5) / "surplus") << "x";
  Publish(5, "new");
  EXPECT_EQ(Content(5), "new");
  EXPECT_FALSE(std::filesystem::exists(dir() / CheckpointName(5) / "surplus"));
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(Folders, KeepsTheNewestUpToTheStep) {
  for (int64_t step : {1, 2, 3, 4, 9}) Publish(step);
  RemoveOldCheckpoints(dir(), 4, 2);
  EXPECT_EQ(CheckpointSteps(dir()), Steps({3, 4, 9}));
  RemoveOldCheckpoints(dir(), 4, 1);
  EXPECT_EQ(CheckpointSteps(dir()), Steps({4, 9}));
  RemoveOldCheckpoints(dir(), 9, 5);
  EXPECT_EQ(CheckpointSteps(dir()), Steps({4, 9}));
  EXPECT_EQ(Entries(), 2u);
}

TEST_F(Folders, RemovesOne) {
  for (int64_t step : {1, 2, 3}) Publish(step);
  RemoveCheckpoint(dir(), 2);
  RemoveCheckpoint(dir(), 2);
  EXPECT_EQ(CheckpointSteps(dir()), Steps({1, 3}));
  EXPECT_EQ(Entries(), 2u);
}

TEST_F(Folders, RemovesOnlyItsOwnLeftovers) {
  Publish(3);
  MakeUnfinishedFolder(dir(), 7);
  for (const char* name : {".checkpoint-8.removed", ".mine.unfinished", ".checkpoint-x.unfinished",
                           "checkpoint-9.unfinished"}) {
    std::filesystem::create_directory(dir() / name);
  }
  RemoveLeftovers(dir());
  EXPECT_EQ(Entries(), 4u);
  EXPECT_EQ(CheckpointSteps(dir()), Steps({3}));
}

TEST_F(Folders, SaysHowMuchSpaceIsMissing) {
  RequireFreeSpace(dir(), 1);
  try {
    RequireFreeSpace(dir(), int64_t{1} << 60);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("MiB are missing"), std::string::npos);
  }
}

TEST_F(Folders, NeverWritesOverAFile) {
  WriteDurably(dir() / "a", "first");
  EXPECT_THROW(WriteDurably(dir() / "a", "second"), IoError);
  EXPECT_THROW(WriteDurably(dir() / "missing" / "a", "x"), IoError);
}

}  // namespace
}  // namespace hearth
