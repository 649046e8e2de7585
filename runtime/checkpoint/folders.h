// The checkpoints of an output folder, as names on a disk. Everything here is for rank 0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// "checkpoint-<step>"
std::string CheckpointName(int64_t step);

// Steps of the folders that have such a name, rising. None where there is no folder.
std::vector<int64_t> CheckpointSteps(const std::filesystem::path& output_dir);

// Where the checkpoint is written before it gets its name: a new, empty folder.
std::filesystem::path MakeUnfinishedFolder(const std::filesystem::path& output_dir, int64_t step);

// Gives the folder its name in one step, durably. What bore the name before is removed afterwards.
void PublishCheckpoint(const std::filesystem::path& unfinished,
                       const std::filesystem::path& output_dir, int64_t step);

// Removes the checkpoint of a step, if there is one. IoError.
void RemoveCheckpoint(const std::filesystem::path& output_dir, int64_t step);

// Keeps the newest `limit` up to `step`, whose checkpoint stays in any case, and everything later.
void RemoveOldCheckpoints(const std::filesystem::path& output_dir, int64_t step, int64_t limit);

// Removes what killed saves and removals left behind.
void RemoveLeftovers(const std::filesystem::path& output_dir);

// IoError that says how much is missing when the disk has less than `bytes` left.
void RequireFreeSpace(const std::filesystem::path& folder, int64_t bytes);

// A new file whose bytes are on the disk on return. IoError.
void WriteDurably(const std::filesystem::path& file, std::string_view bytes);

}  // namespace hearth
