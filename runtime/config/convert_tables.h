// What the keys of other trainers' configurations are called in run.yaml. Pure data.
#pragma once

#include <string_view>
#include <vector>

namespace hearth {

// How a value becomes ours.
enum class ValueRule {
  kSame,       // as it is; 3.0 for 3 where an integer is asked for
  kPositive,   // kSame; zero and less mean that nothing was chosen
  kWords,      // by Mapping::words
  kAddToList,  // adds the word it stands for to a list
  kReportTo,   // a list of programs to report to, or the name of one
  kZeroStage,  // the stage in a name such as ds_zero3_offload.json
  kDatasets,   // names of data that is not tokenized yet: one shard for all
  kFiles,      // token files as they are
  kLost,       // no counterpart
};

// One key of theirs. Later rows of a table replace what earlier ones said of the same path.
struct Mapping {
  std::string_view key;   // theirs, dotted; "": none, the row is for its fallback
  std::string_view path;  // ours; "" under kLost
  ValueRule rule = ValueRule::kSame;
  std::string_view words = {};     // "theirs=ours;..."; compared without case
  std::string_view quiet = {};     // "a;b": values that mean nothing, so that nothing is said
  std::string_view fallback = {};  // what the other program takes when the key is absent, as ours
  std::string_view note = {};      // said beside the value, or what to do instead
};

struct ForeignFormat {
  std::string_view name;   // of --from
  std::string_view title;  // for people
  bool is_command_line = false;
  std::vector<Mapping> mappings;
  std::vector<std::string_view> quiet_keys;  // that decide nothing about a run
};

// All that --from takes.
const std::vector<ForeignFormat>& ForeignFormats();

}  // namespace hearth
